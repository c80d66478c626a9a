"""`manage.py profile`: the profiles from a terminal or a script."""

import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from inference.pushing import Delivery
from tuning import selectors, services, yaml_files
from tuning.fields import FIELDS, number, shown
from tuning.hardware import judge
from tuning.models import NONE, Activation, Profile
from tuning.selectors import Resolved
from tuning.services import TuningError

NOT_CONFIRMED = 3  # exit code: saved, but the gateway didn't confirm it


class Command(BaseCommand):
    help = (
        "List, show, activate, undo, export and import profiles. Exit codes: 0 done, 1 refused, 2 wrong arguments, "
        f"{NOT_CONFIRMED} saved but not confirmed by the gateway."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        as_json = ArgumentParser(add_help=False)
        as_json.add_argument("--json", action="store_true", help="for scripts")
        actions.add_parser("list", help="all profiles, the one in use marked", parents=[as_json])
        show = actions.add_parser(
            "show", help="one profile: effective values and where they come from", parents=[as_json]
        )
        show.add_argument("name")
        activate = actions.add_parser(
            "activate", help="put a profile to use from the next request on", parents=[as_json]
        )
        activate.add_argument("name", help=f"'{NONE}' switches all profiles off")
        activate.add_argument("--note", default="", help="why; at most 200 characters")
        actions.add_parser("undo", help="back to what was in use before", parents=[as_json])
        export = actions.add_parser("export", help="profiles as YAML, to stdout or a file", parents=[as_json])
        export.add_argument("names", nargs="*", metavar="NAME", help="default: all")
        export.add_argument("--output", type=Path, metavar="FILE")
        load = actions.add_parser("import", help="profiles from YAML; all of them or none", parents=[as_json])
        load.add_argument("file", metavar="FILE", help="'-' reads stdin")
        load.add_argument(
            "--replace", action="store_true", help="change profiles that exist (a version is kept)"
        )

    def handle(self, *args: object, action: str, **options: Any) -> None:
        self.deliveries: list[Delivery] = []
        try:
            found, text = getattr(self, f"do_{action}")(options)
        except (TuningError, yaml_files.ProfileFileError) as error:
            raise CommandError(str(error)) from error
        except ValidationError as error:
            raise CommandError(errors_in_words(error)) from error
        if options["json"]:
            if self.deliveries:
                found["gateway"] = {
                    "ok": all(each.ok for each in self.deliveries),
                    "text": self.deliveries[-1].text,
                }
            self.stdout.write(json.dumps(found, indent=1))
        else:
            self.stdout.write(text, ending="" if text.endswith("\n") else "\n")
            for delivery in self.deliveries:
                if delivery.ok:
                    self.stdout.write(delivery.text)
        if wrong := [each for each in self.deliveries if not each.ok]:
            raise CommandError(wrong[-1].text, returncode=NOT_CONFIRMED)

    def do_list(self, options: dict[str, Any]) -> tuple[Any, str]:
        resolved, current = selectors.resolve_all(), selectors.activation_in_use()
        verdict = judge(selectors.hardware())
        active = current.profile_name if current else ""
        found = {
            "active": active or None,
            "recommended": verdict.profile,
            "recommended_because": verdict.reason,
            "profiles": [summary(each) for each in resolved.values()],
        }
        lines = [
            f"  {'profile':<24} {'category':<12} {'context':>8} {'parallel':>8} {'answer':>7} {'memory':>10}"
        ]
        for name, each in resolved.items():
            values = each.values
            marks = ("*" if name == active else " ") + ("+" if name == verdict.profile else " ")
            numbers = (f"{_cell(values[key]):>{width}}" for key, width in (("context", 8), ("batch", 8)))
            lines.append(
                f"{marks}{name:<25}{each.profile.category:<12} {' '.join(numbers)} {_cell(values['num_predict']):>7}"
                f" {_cell(values['memory_mb']):>7} MB"
            )
        lines.append(f"* in use: {active or 'none'}; + recommended: class {verdict.label}, {verdict.reason}")
        return found, "\n".join(lines)

    def do_show(self, options: dict[str, Any]) -> tuple[Any, str]:
        each = resolved_one(options["name"])
        lines = [f"{each.profile.name}, version {each.profile.version}: {each.profile.description}"]
        lines += [
            f"  {field.label:<22} {shown(field, each.fields[field.name].value):<24} {each.fields[field.name].source}"
            for field in FIELDS
        ]
        lines += [
            f"  {pattern}: {option:<{max(20 - len(pattern), 0)}} {number(found.value):<24} {found.source}"
            for pattern, options in each.models.items()
            for option, found in options.items()
        ]
        return {**summary(each), "own": each.profile.snapshot()}, "\n".join(lines)

    def do_activate(self, options: dict[str, Any]) -> tuple[Any, str]:
        if len(options["note"]) > 200:
            raise CommandError("--note: at most 200 characters.")
        profile = None if options["name"] == NONE else resolved_one(options["name"]).profile
        activation = services.activate(profile, by=None, note=options["note"], told=self.deliveries.append)
        return activation_facts(activation), f"{activation.label} is in use."

    def do_undo(self, options: dict[str, Any]) -> tuple[Any, str]:
        current = selectors.activation_in_use()
        if current is None:
            raise TuningError("There is nothing to undo: no profile was put to use.")
        previous = services.undo(current, by=None, told=self.deliveries.append)
        label = previous.label if previous else NONE
        return {
            "undone": activation_facts(current),
            "active": label,
        }, f"{current.label} is undone; in use: {label}."

    def do_export(self, options: dict[str, Any]) -> tuple[Any, str]:
        profiles = [resolved_one(name).profile for name in options["names"]]
        everybody = Profile.objects.select_related("parent").prefetch_related("model_options")
        rows = [(row.name, row.snapshot()) for row in profiles or everybody]
        text = yaml_files.write(rows)
        found = {"profiles": [{"name": name, **snapshot} for name, snapshot in rows]}
        if options["output"] is None:
            return found, text
        try:
            options["output"].write_text(text)
        except OSError as error:
            raise CommandError(f"{options['output']} can't be written: {error.strerror}.") from error
        return found, f"{len(rows)} profiles are in {options['output']}."

    def do_import(self, options: dict[str, Any]) -> tuple[Any, str]:
        file = options["file"]
        try:
            text = sys.stdin.read() if file == "-" else Path(file).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{file} can't be read: {error}.") from error
        result = services.import_profiles(
            yaml_files.read(text), replace=options["replace"], by=None, told=self.deliveries.append
        )
        return result, "\n".join(f"{key}: {', '.join(names) or 'none'}" for key, names in result.items())


def resolved_one(name: str) -> Resolved:
    found = selectors.resolve_all()
    if name not in found:
        raise TuningError(f"There is no profile called {name}; there are {', '.join(found)}.")
    return found[name]


def summary(each: Resolved) -> dict[str, Any]:
    row = each.profile
    return {
        "name": row.name,
        "version": row.version,
        "category": row.category,
        "predefined": row.predefined,
        "effective": {
            name: {"value": found.value, "from": found.source} for name, found in each.fields.items()
        },
        "model_options": {
            pattern: {
                option: {"value": found.value, "from": found.source} for option, found in options.items()
            }
            for pattern, options in each.models.items()
        },
    }


def activation_facts(activation: Activation) -> dict[str, Any]:
    return {
        "name": activation.label,
        "version": activation.version,
        "at": activation.at.isoformat(),
        "note": activation.note,
    }


def errors_in_words(error: ValidationError) -> str:
    if not hasattr(error, "error_dict"):
        return " ".join(error.messages)
    return "\n".join(f"{key}: {' '.join(texts)}" for key, texts in error.message_dict.items())


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:g}"
