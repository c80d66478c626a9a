import json
import signal
import time
from argparse import ArgumentParser
from typing import Any

import redis
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from monitoring.alerts.loop import AlertLoop
from monitoring.collector import Outlet, Sampler, run
from monitoring.readers import READERS, Roots
from monitoring.services import SampleWriter

FIRST_S = 10.0  # a driver that starts takes seconds


class Command(BaseCommand):
    help = "Sample this machine each second: publish to the live page, store in the database."
    requires_system_checks = ()  # they load every page, which a process that lives on would keep

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--once", action="store_true", help="take one sample (over one second), print it, end"
        )
        parser.add_argument("--json", action="store_true", help="with --once: print JSON")
        parser.add_argument("--readers", help=f"comma-separated, of {', '.join(r.name for r in READERS)}")

    def handle(self, *args: object, once: bool, json: bool, readers: str | None, **options: Any) -> None:
        names = readers.split(",") if readers else None
        unknown = set(names or ()) - {reader.name for reader in READERS}
        if unknown:
            raise CommandError(f"--readers: no reader is called {', '.join(sorted(unknown))}")
        sampler = Sampler(settings.HOST_NAME, Roots(valkey_url=settings.VALKEY_URL), names)
        if once:
            self._print_one(sampler, as_json=json)
            return
        ending: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda found, _: ending.append(found))
        valkey = redis.from_url(settings.VALKEY_URL, socket_timeout=2, socket_connect_timeout=2)
        outlet = Outlet(valkey, lambda: SampleWriter(settings.HOST_NAME, settings.METRICS_RETENTION_HOURS))
        run(sampler, outlet, AlertLoop(settings.HOST_NAME), lambda: bool(ending))
        sampler.close()

    def _print_one(self, sampler: Sampler, *, as_json: bool) -> None:
        sampler.sample(time.time(), time.monotonic())
        sampler.wait_for_first(FIRST_S)
        time.sleep(1)
        sample = sampler.sample(time.time(), time.monotonic())
        sampler.close()
        if as_json:
            self.stdout.write(json.dumps(sample))
            return
        for name, value in sorted(sample["v"].items()):
            self.stdout.write(f"{name:<48} {'unknown' if value is None else f'{value:,.2f}'}")
