"""Settings, URLs, supervisor and the pages that join the apps."""

from aicleaner_site.celery import app as celery_app

__all__ = ["celery_app"]
