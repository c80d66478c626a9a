from aicleaner_site.management.process import ProcessCommand
from aicleaner_site.processes import engine_command


class Command(ProcessCommand):
    help = "The embedded Ollama-compatible engine, with the addresses and limits of the settings."
    process_command = staticmethod(engine_command)
