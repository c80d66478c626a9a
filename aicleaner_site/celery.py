"""The Celery application: `celery -A aicleaner_site worker|beat`."""

import os
from functools import cached_property
from typing import Any

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aicleaner_site.settings")


class Application(Celery):
    @cached_property
    def Beat(self) -> Any:  # noqa: N802 - Celery's name
        from aicleaner_site.beat import Beat  # only beat's own process needs it

        return self.subclass_with_self(Beat)


app = Application("aicleaner")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
