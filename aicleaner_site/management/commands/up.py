"""`manage.py up`: everything from an empty folder to a page that one can open."""

import os
import secrets
import sys
import time
import urllib.error
import urllib.request
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any, NoReturn

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connections
from django.utils import timezone

from aicleaner_site import accounts, health, preflight
from aicleaner_site.processes import all_processes, hand_over_engine_keys
from aicleaner_site.supervisor import write_configuration
from inference.gateway.callers import is_loopback


class Command(BaseCommand):
    help = "Prepare the data folder and the database, start every process under one supervisor, and print where to log in."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--wait",
            type=float,
            default=90,
            metavar="SECONDS",
            help="how long to wait for all parts to answer",
        )

    def handle(self, *args: object, wait: float, **options: Any) -> None:
        started = time.monotonic()
        try:
            preflight.check_ollama_host()
            preflight.make_folders()
            preflight.check_free_space()
            lock = preflight.take_lock()
            preflight.check_ports()
        except preflight.CannotStartError as error:
            raise CommandError(str(error)) from error
        make_secret_key()
        hand_over_engine_keys()
        try:
            call_command("migrate", interactive=False, verbosity=0)
        except DatabaseError as error:
            raise CommandError(
                f"The database does not take the tables: {error}".strip()
                + f"\n(DATABASE_URL, or the file in {settings.DATA_DIR} where that is not set)"
            ) from error
        password = accounts.ensure_admin(os.environ.get("AICLEANER_ADMIN_PASSWORD"))
        file = write_configuration(all_processes())
        connections.close_all()
        self.stdout.flush()
        # This process becomes the small one that stays; a child of it, with Django loaded, waits and greets.
        greeter = os.fork()
        if greeter == 0:
            self.wait_and_greet(started, wait, password)
        os.set_inheritable(lock.fileno(), True)
        watch = str(settings.BASE_DIR / "aicleaner_site" / "watch.py")
        os.execv(sys.executable, [sys.executable, watch, str(file), str(settings.LOG_DIR), str(greeter)])  # noqa: S606

    def wait_and_greet(self, started: float, wait: float, password: str | None) -> NoReturn:
        """Runs in the child and ends it, whatever happens."""
        status = 1
        try:
            parent = os.getppid()
            missing = wait_until_healthy(wait, lambda: os.getppid() != parent)
            self.greet(time.monotonic() - started, missing, password)
            status = 0
        except KeyboardInterrupt:
            pass
        finally:
            self.stdout.flush()
            os._exit(status)

    def greet(self, took_s: float, missing: list[health.Part], password: str | None) -> None:
        url = f"http://{shown_host(settings.WEB_HOST)}:{settings.WEB_PORT}"
        user = get_user_model().objects.filter(username=accounts.ADMIN, is_active=True).first()
        for part in missing:
            self.say(f"{part.name} does not answer yet: {part.detail}; see {settings.LOG_DIR}")
        lines = [
            "",
            f"AICleaner Performance is {'up' if not missing else 'up in part'} after {took_s:.1f} s.",
            f"  Pages     {url}/",
        ]
        if user is not None:
            token = accounts.create_one_time_login(user, timezone.now())
            lines.append(f"  Log in    {url}/login/once/{token}/   (once, within 15 minutes)")
        if password is not None:
            lines.append(f"  Account   {accounts.ADMIN}, password {password}   (shown this once)")
        gateway = f"http://{shown_host(settings.GATEWAY_HOST)}:{settings.GATEWAY_PORT}"
        lines += [
            f"  Gateway   {gateway}   (Ollama API, and OpenAI API under /v1)",
            f"  Logs      {settings.LOG_DIR}",
            *open_gateway_warning(),
            "Ctrl-C stops everything.",
            "",
        ]
        self.stdout.write("\n".join(lines))
        self.stdout.flush()

    def say(self, text: str) -> None:
        self.stdout.write(f"{timezone.localtime():%H:%M:%S} {text}")
        self.stdout.flush()


def open_gateway_warning() -> list[str]:
    if settings.GATEWAY_REQUIRE_KEY != "never" or is_loopback(settings.GATEWAY_HOST):
        return []
    return [
        f"  WARNING   The gateway on {settings.GATEWAY_HOST} serves everybody who reaches it: without",
        "            AICLEANER_GATEWAY_REQUIRE_KEY=never it would want an API key of other machines.",
    ]


def make_secret_key() -> None:
    """Write `DATA_DIR/secret_key` (0600) unless it is there; a half-written key never stands under that name."""
    file = settings.DATA_DIR / "secret_key"
    if os.environ.get("AICLEANER_SECRET_KEY"):
        return
    if not file.exists():
        half = file.with_name(f"secret_key.{os.getpid()}")
        with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(secrets.token_urlsafe(50))
        half.rename(file)
    settings.SECRET_KEY = file.read_text().strip()


def wait_until_healthy(seconds: float, stopped: Callable[[], bool]) -> list[health.Part]:
    """Parts that still do not answer after `seconds` (or when `stopped`); empty when all do."""
    web = f"http://{shown_host(settings.WEB_HOST)}:{settings.WEB_PORT}/healthz"
    end = time.monotonic() + seconds
    while True:
        missing = [part for part in health.check() if not part.ok]
        if not missing and not answers(web):
            missing = [health.Part("web", False, f"nothing at {web}")]
        if not missing or time.monotonic() > end or stopped():
            return missing
        time.sleep(0.1)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own address
            return bool(answer.status == 200)
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


def shown_host(host: str) -> str:
    """An address that a browser on this machine can open."""
    if host in ("0.0.0.0", "::"):  # noqa: S104
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
