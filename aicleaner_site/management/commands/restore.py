"""`manage.py restore`: a backup in the place of the data folder."""

import json
import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from aicleaner_site.backup.errors import BackupError
from aicleaner_site.backup.restoring import Restored, examine, restore
from inference.jobs.command import Bar
from inference.sizes import size


class Command(BaseCommand):
    help = """\
Put a backup (`manage.py backup`) in the place of the data folder. All of it is checked before anything is written; it takes
the place in one step, and a backup of an earlier version is brought to this one. The product has to be stopped.

  manage.py restore /backups/aicleaner-2026-11-25.tar.zst --dry-run

Exit codes: 0 done, 1 refused or failed (the data folder is as it was), 130 ended by Ctrl-C. A dry run says what would
refuse it, and fails only for a file that can't be restored."""
    requires_system_checks = ()

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        return super().create_parser(
            prog_name, subcommand, formatter_class=RawDescriptionHelpFormatter, **kwargs
        )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", metavar="FILE", type=Path)
        parser.add_argument(
            "--force", action="store_true", help="also over data, which are moved aside; nothing is deleted"
        )
        parser.add_argument("--dry-run", action="store_true", help="check all of it, and change nothing")
        parser.add_argument("--json", action="store_true", help="print the result as JSON, and nothing else")

    def handle(self, *args: object, file: Path, force: bool, dry_run: bool, **options: Any) -> None:
        bar = Bar(sys.stderr)
        try:
            if dry_run:
                done = examine(file.absolute(), force=force, told=bar.step)
            else:
                done = restore(file.absolute(), force=force, now=timezone.now(), told=bar.step)
        except (BackupError, OSError) as error:
            bar.close()
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            raise SystemExit(130) from None
        finally:
            bar.close()
        if options["json"]:
            self.stdout.write(json.dumps(as_json(done, dry_run), indent=2))
        else:
            self.stdout.write("\n".join(as_lines(done, dry_run)))


def as_json(done: Restored, dry_run: bool) -> dict[str, Any]:
    return {
        "data_dir": str(settings.DATA_DIR),
        "dry_run": dry_run,
        "would_be_refused": list(done.hindrances),
        "version": done.manifest.version,
        "made_at": done.manifest.made_at.isoformat(),
        "host": done.manifest.host,
        "n_files": len(done.manifest.files),
        "content_bytes": done.manifest.content_bytes,
        "waiting_records": done.manifest.n_waiting,
        "with_models": done.manifest.with_models,
        "models_kept": done.models_kept,
        "newer_migrations": list(done.newer),
        "old_data": str(done.aside) if done.aside else None,
        "old_data_of_a_killed_restore": str(done.unfinished) if done.unfinished else None,
    }


def as_lines(done: Restored, dry_run: bool) -> list[str]:
    manifest = done.manifest
    about = (
        f"version {manifest.version}, made {manifest.made_at:%Y-%m-%d %H:%M} UTC on {manifest.host}, "
        f"{len(manifest.files):,} files of {size(manifest.content_bytes)}"
    )
    if dry_run:
        lines = [f"The backup is whole: {about}. Nothing was changed."]
        lines += [f"It would be refused: {each}" for each in done.hindrances]
    else:
        lines = [f"Restored into {settings.DATA_DIR}: {about}. `make up` starts it."]
    if done.newer:
        does = "would be" if dry_run else "was"
        lines.append(f"Its database {does} brought to this version ({len(done.newer)} migrations).")
    if done.aside:
        lines.append(f"The old data lie in {done.aside}: delete them when you don't need them any more.")
    if done.unfinished:
        lines.append(f"A restore that was killed had left older data; they lie in {done.unfinished}.")
    if not manifest.with_models and not dry_run:
        kept = (
            "those that were here are kept"
            if done.models_kept
            else "the sample model is made at the next start"
        )
        lines.append(f"The backup holds no models: {kept}.")
    return [*lines, *_secret_key_lines(done)]


def _secret_key_lines(done: Restored) -> list[str]:
    given = bool(os.environ.get("AICLEANER_SECRET_KEY"))
    if not done.manifest.has_secret_key:
        return [
            "Its secrets open under the AICLEANER_SECRET_KEY that was set where it was made: set the same one here."
        ]
    if given:
        return [
            "WARNING: AICLEANER_SECRET_KEY is set here, and goes before the secret key of the backup: unset it."
        ]
    return []
