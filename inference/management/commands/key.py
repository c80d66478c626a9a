"""`manage.py key`: API keys of the gateway from a terminal or a script."""

import json
from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from inference.api_keys import selectors, services
from inference.api_keys.forms import KeyForm
from inference.models import ApiKey
from inference.pushing import Delivery

NOT_CONFIRMED = 3  # exit code: saved, but the gateway didn't confirm it
OPTIONS = {  # of `create`: field of the form and its help
    "expires": ("TIME", "such as 2027-01-31T18:30+01:00; UTC without an offset"),
    "requests_per_minute": ("N", "limit"),
    "tokens_per_minute": ("N", "limit"),
    "tokens_per_month": ("N", "budget of the calendar month in UTC"),
    "usd_per_month": ("USD", "budget, of requests to clouds whose price is known"),
    "frame_distance": ("BITS", "its pictures that are so near share answers"),
}


class Command(BaseCommand):
    help = (
        "Make, list and revoke API keys of the gateway. Exit codes: 0 done, 1 refused, 2 wrong arguments, "
        f"{NOT_CONFIRMED} saved but not confirmed by the gateway."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        as_json = ArgumentParser(add_help=False)
        as_json.add_argument("--json", action="store_true", help="for scripts")
        create = actions.add_parser(
            "create", help="print a new key: it is shown this once", parents=[as_json]
        )
        create.add_argument("name", help="whose it is")
        for name, (metavar, words) in OPTIONS.items():
            create.add_argument(f"--{name.replace('_', '-')}", default="", metavar=metavar, help=words)
        create.add_argument(
            "--model", action="append", default=[], metavar="GLOB", help="allowed; default: all"
        )
        create.add_argument("--manages", action="store_true", help="may pull, create, copy and delete models")
        actions.add_parser("list", help="all keys, with what they used this month", parents=[as_json])
        revoke = actions.add_parser("revoke", help="refuse a key from the next request on", parents=[as_json])
        revoke.add_argument("name")
        revoke.add_argument("--delete", action="store_true", help="with all that is known of it")

    def handle(self, *args: object, action: str, **options: Any) -> None:
        self.deliveries: list[Delivery] = []
        found, text = getattr(self, f"do_{action}")(options)
        if options["json"]:
            if self.deliveries:
                found["gateway"] = {"ok": self.deliveries[-1].ok, "text": self.deliveries[-1].text}
            self.stdout.write(json.dumps(found, indent=1))
        else:
            self.stdout.write(text)
            for delivery in self.deliveries:
                if delivery.ok:
                    self.stdout.write(delivery.text)
        if wrong := [each for each in self.deliveries if not each.ok]:
            raise CommandError(wrong[-1].text, returncode=NOT_CONFIRMED)

    def do_create(self, options: dict[str, Any]) -> tuple[dict[str, Any], str]:
        now = timezone.now()
        sent = {name: options[name] for name in OPTIONS}
        form = KeyForm(
            {
                **sent,
                "name": options["name"],
                "allowed": "\n".join(options["model"]),
                "manages": options["manages"],
            },
            now=now,
        )
        if not form.is_valid():
            wrong = [f"{name}: {' '.join(map(str, errors))}" for name, errors in form.errors.items()]
            raise CommandError("\n".join(wrong))
        key: ApiKey = form.save(commit=False)
        token = services.create_key(key, who="command", user=None, now=now, told=self.deliveries.append)
        text = f"{token}\nThis is the key of {key.name}, shown this once."
        return {**facts(selectors.row(key, now)), "key": token}, text

    def do_list(self, options: dict[str, Any]) -> tuple[dict[str, Any], str]:
        rows = selectors.rows(timezone.now())
        lines = [
            f"{'key':<24} {'begins with':<14} {'state':<15} {'requests':>9} {'errors':>7} {'tokens':>12}  last used"
        ]
        lines += [
            f"{row.key.name:<24} {row.key.prefix + '…':<14} {row.state:<15} {row.month.n_requests:>9,} "
            f"{row.month.n_errors:>7,} {row.month.n_tokens:>12,}  {_written(row.key.last_used_at) or 'never'}"
            for row in rows
        ]
        return {"keys": [facts(row) for row in rows]}, "\n".join(lines if rows else ["There is no API key."])

    def do_revoke(self, options: dict[str, Any]) -> tuple[dict[str, Any], str]:
        key = ApiKey.objects.filter(name=options["name"]).first()
        if key is None:
            names = ", ".join(ApiKey.objects.values_list("name", flat=True)) or "none"
            raise CommandError(f"There is no API key {options['name']!r}. There is: {names}.")
        done = "deleted" if options["delete"] else "disabled"
        if options["delete"]:
            services.delete_key(key, who="command", told=self.deliveries.append)
        else:
            services.enable_key(key, False, who="command", told=self.deliveries.append)
        return {"name": key.name, "done": done}, f"{key.name} is {done}."


def facts(row: selectors.Row) -> dict[str, Any]:
    key, month = row.key, row.month
    return {
        "name": key.name,
        "prefix": key.prefix,
        "state": row.state,
        "expires_at": _written(key.expires_at),
        "requests_per_minute": key.requests_per_minute,
        "tokens_per_minute": key.tokens_per_minute,
        "tokens_per_month": key.tokens_per_month,
        "usd_per_month": None if key.usd_per_month is None else float(key.usd_per_month),
        "models": key.allowed_models,
        "manages": key.manages,
        "frame_distance": key.frame_distance,
        "last_used_at": _written(key.last_used_at),
        "month": month.month,
        "requests": month.n_requests,
        "errors": month.n_errors,
        "tokens": month.n_tokens,
        "cost_usd": month.cost_usd if month.n_costed else None,
    }


def _written(at: datetime | None) -> str | None:
    return at.astimezone(UTC).isoformat() if at else None
