from aicleaner_site.management.process import ProcessCommand
from aicleaner_site.processes import gateway_command


class Command(ProcessCommand):
    help = "The gateway to Ollama or the embedded engine, with the addresses of the settings."
    process_command = staticmethod(gateway_command)
