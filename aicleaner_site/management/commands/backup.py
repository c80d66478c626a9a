"""`manage.py backup`: the whole data folder in one file."""

import json
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from aicleaner_site.backup.errors import BackupError
from aicleaner_site.backup.making import Made, make_backup
from inference.jobs.command import Bar
from inference.sizes import size


class Command(BaseCommand):
    help = """\
Copy the state of the data folder into one file, while the product runs or not: database, secret key, archives and all
else but logs, caches and, unless they are asked for, models. `manage.py restore FILE` is the way back.

  manage.py backup /backups/aicleaner-$(date +%F).tar.zst

Exit codes: 0 done, 1 refused or failed (nothing is left then), 130 ended by Ctrl-C."""
    requires_system_checks = ()

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        return super().create_parser(
            prog_name, subcommand, formatter_class=RawDescriptionHelpFormatter, **kwargs
        )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", metavar="FILE.tar.zst", type=Path, help="that does not exist yet")
        parser.add_argument(
            "--with-models", action="store_true", help="the models of the embedded engine, too"
        )
        parser.add_argument("--json", action="store_true", help="print the result as JSON, and nothing else")

    def handle(self, *args: object, file: Path, with_models: bool, **options: Any) -> None:
        bar = Bar(sys.stderr)
        try:
            made = make_backup(file.absolute(), with_models=with_models, now=timezone.now(), told=bar.step)
        except (BackupError, OSError) as error:
            bar.close()
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            raise SystemExit(130) from None
        finally:
            bar.close()
        if options["json"]:
            self.stdout.write(json.dumps(as_json(made), indent=2))
        else:
            self.stdout.write(as_text(made))


def as_json(made: Made) -> dict[str, Any]:
    manifest = made.manifest
    return {
        "file": str(made.file),
        "bytes": made.n_bytes,
        "n_files": len(manifest.files),
        "content_bytes": manifest.content_bytes,
        "database_bytes": made.database_bytes,
        "waiting_records": manifest.n_waiting,
        "with_models": manifest.with_models,
        "models_left_out_bytes": made.models_bytes,
        "has_secret_key": manifest.has_secret_key,
        "version": manifest.version,
        "made_at": manifest.made_at.isoformat(),
        "not_saved": made.odd,
    }


def as_text(made: Made) -> str:
    manifest = made.manifest
    lines = [
        f"{made.file}: {size(made.n_bytes)}, {len(manifest.files):,} files of {size(manifest.content_bytes)}, "
        f"{size(made.database_bytes)} of them the database.",
        "It holds secrets (passwords' hashes, sealed keys and, where it lies in the data folder, what opens them): only you may "
        "read it (0600); keep it where that stays so.",
    ]
    if made.models_bytes:
        lines.append(f"Models are not in it: {size(made.models_bytes)}; --with-models takes them along.")
    if not manifest.has_secret_key:
        lines.append(
            "The secret key is not in it, as AICLEANER_SECRET_KEY gives it: keep that, too; without it no secret opens."
        )
    if manifest.n_waiting is None:
        lines.append(
            "WARNING: Valkey does not answer. Request records that wait there for the database are not in it."
        )
    elif manifest.n_waiting:
        lines.append(f"{manifest.n_waiting:,} request records that waited for the database are in it.")
    if not settings.CONFIG_FILE.is_relative_to(settings.DATA_DIR) and settings.CONFIG_FILE.exists():
        lines.append(f"{settings.CONFIG_FILE} and environment variables are not in it: they lie elsewhere.")
    return "\n".join([*lines, *(f"Not saved: {each}" for each in made.odd)])
