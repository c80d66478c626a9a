"""Where apps that are blind to each other meet: what inference tells becomes news and events of monitoring."""

import time
from typing import Any

from django.conf import settings

from inference import events
from monitoring import news
from monitoring.services import record_event


def connect() -> None:
    events.changed.connect(_to_pages)
    events.happened.connect(_to_lane)


def _to_pages(*, kind: str, row_id: int, data: dict[str, Any], **_: object) -> None:
    news.tell(kind, row_id, **data)


def _to_lane(*, kind: str, text: str, **_: object) -> None:
    record_event(host=settings.HOST_NAME, at=time.time(), kind=kind, text=text)
