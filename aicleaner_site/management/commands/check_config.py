from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from aicleaner_site.config import ConfigError, load_config, unused_keys


class Command(BaseCommand):
    help = "Check config.yaml: name the key of anything wrong, and the keys that change nothing yet."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", nargs="?", type=Path, default=settings.CONFIG_FILE)

    def handle(self, *args: object, file: Path, **options: Any) -> None:
        if not file.exists():
            raise CommandError(f"{file} does not exist.")
        try:
            config = load_config(file)
        except ConfigError as error:
            raise CommandError(str(error)) from error
        for key in unused_keys(config):
            self.stdout.write(f"{file}: {key} is known, but nothing acts on it yet.")
        self.stdout.write(f"{file} is valid.")
