"""celery beat, ended by the first SIGTERM at whatever it is doing."""

import signal
import sys

from celery import beat
from celery.apps.beat import Beat as CeleryBeat


class Beat(CeleryBeat):
    """Celery's own handler stores the schedule amid whatever was interrupted. Where that was a statement of the same
    connection, storing fails, the interrupted code takes the failure for its own, and the signal is lost. `Service.start`
    stores the schedule anyway once it is left."""

    def install_sync_handler(self, service: beat.Service) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, frame: sys.exit())
