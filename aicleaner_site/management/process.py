"""Commands that become one of the product's processes."""

import os
from argparse import REMAINDER, ArgumentParser
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from aicleaner_site import preflight


class ProcessCommand(BaseCommand):
    """Replaces this process by the one that the supervisor would start: same arguments, same settings."""

    process_command: Callable[[], list[str]]

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "arguments", nargs=REMAINDER, help="handed on; '-- --help' shows what the process knows"
        )

    def handle(self, *args: object, arguments: list[str], **options: Any) -> None:
        try:
            preflight.make_folders()
        except preflight.CannotStartError as error:
            raise CommandError(str(error)) from error
        command = [*self.process_command(), *(word for word in arguments if word != "--")]
        os.chdir(settings.BASE_DIR)
        os.execv(command[0], command)  # noqa: S606
