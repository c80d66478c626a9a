from typing import Any

from aicleaner_site.management.process import ProcessCommand
from aicleaner_site.processes import gateway_command, hand_over_engine_keys


class Command(ProcessCommand):
    help = "The gateway to Ollama or the embedded engine, with the addresses of the settings."
    process_command = staticmethod(gateway_command)

    def handle(self, *args: object, arguments: list[str], **options: Any) -> None:
        hand_over_engine_keys()
        super().handle(*args, arguments=arguments, **options)
