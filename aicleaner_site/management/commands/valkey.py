from aicleaner_site.management.process import ProcessCommand
from aicleaner_site.processes import valkey_command


class Command(ProcessCommand):
    help = "The embedded Valkey server, on a socket that only this user reaches."
    process_command = staticmethod(valkey_command)
