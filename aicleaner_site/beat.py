"""celery beat: light, and ended by the first SIGTERM at whatever it is doing."""

import signal
import sys

import django
from celery import beat
from celery.apps.beat import Beat as CeleryBeat

from aicleaner_site import tasks  # noqa: F401 - says that beat is alive as soon as it is


class Beat(CeleryBeat):
    def init_loader(self) -> None:
        """Nothing but the schedule: it sends tasks by name and queue (`CELERY_TASK_ROUTES`), and the code of the other tasks
        would only weigh on it."""
        django.setup()
        assert self.app is not None
        self.app.finalize()

    def install_sync_handler(self, service: beat.Service) -> None:
        """Celery's own handler stores the schedule amid whatever was interrupted. Where that was a statement of the same
        connection, storing fails, the interrupted code takes the failure for its own, and the signal is lost.
        `Service.start` stores the schedule anyway once it is left."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, frame: sys.exit())
