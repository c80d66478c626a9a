"""What happens here, for whoever is above: receivers are connected by aicleaner_site, this app never learns by whom."""

from typing import Any

from django.db import transaction
from django.dispatch import Signal

changed = Signal()  # kind: str, row_id: int, data: dict - a page that shows the row is out of date
happened = Signal()  # kind: job, model or gateway; text: str - for the lane of events


def tell(kind: str, row_id: int, **data: Any) -> None:
    """When the transaction commits."""
    transaction.on_commit(lambda: changed.send(sender=None, kind=kind, row_id=row_id, data=data))


def note(kind: str, text: str) -> None:
    happened.send(sender=None, kind=kind, text=text)
