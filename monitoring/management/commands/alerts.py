import getpass
import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from monitoring.alerts import transfer
from monitoring.alerts.transfer import AlertsFileError, Entry


class Command(BaseCommand):
    help = (
        "Export and import channels, escalation policies, rules and silences as YAML."
        " Exit codes: 0 done, 1 refused, 2 wrong arguments."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        export = actions.add_parser("export", help="all of them, but silences that are over and secrets")
        export.add_argument("--output", type=Path, metavar="FILE", help="default: stdout")
        load = actions.add_parser(
            "import", help="say what a file changes, and change it; all of it or nothing"
        )
        load.add_argument("file", metavar="FILE", help="'-' reads stdin")
        load.add_argument("--dry-run", action="store_true", help="only say what it would change")
        load.add_argument("--json", action="store_true", help="for scripts")

    def handle(self, *args: object, action: str, **options: Any) -> None:
        if action == "export":
            self._export(options["output"])
        else:
            self._import(options["file"], dry_run=options["dry_run"], as_json=options["json"])

    def _export(self, output: Path | None) -> None:
        text = transfer.write(timezone.now())
        if output is None:
            self.stdout.write(text, ending="")
            return
        try:
            output.write_text(text)
        except OSError as error:
            raise CommandError(f"{output} can't be written: {error}.") from error

    def _import(self, file: str, *, dry_run: bool, as_json: bool) -> None:
        try:
            text = sys.stdin.read() if file == "-" else Path(file).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{file} can't be read: {error}.") from error
        who, now = getpass.getuser(), timezone.now()
        try:
            entries = transfer.read(text, who=who, now=now)
        except AlertsFileError as error:
            raise CommandError(f"Nothing was imported.\n{error}") from error
        n = 0 if dry_run else transfer.take(entries, who=who, now=now)
        if as_json:
            found = [
                {name: getattr(each, name) for name in ("what", "name", "status", "changes", "notes")}
                for each in entries
            ]
            self.stdout.write(json.dumps({"imported": n, "entries": found}, indent=1))
            return
        for line in _lines(entries):
            self.stdout.write(line)
        self.stdout.write(
            "Nothing was changed: a dry run." if dry_run else f"{n} entries were new or changed."
        )


def _lines(entries: list[Entry]) -> list[str]:
    found = []
    for entry in entries:
        found.append(f"{entry.status:<8} {entry.what} {entry.name}")
        for name, before, after in entry.changes:
            found += [f"  - {name}: {before}"] if before else []
            found += [f"  + {name}: {after}"] if after else []
        found += [f"  {note}." for note in entry.notes]
    return found
