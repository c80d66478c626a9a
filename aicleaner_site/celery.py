"""The Celery application: `celery -A aicleaner_site worker|beat`."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aicleaner_site.settings")

app = Celery("aicleaner")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
