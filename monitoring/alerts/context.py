"""What every page shows of the open alerts."""

from typing import Any

from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from monitoring.alerts.selectors import open_alerts
from monitoring.models import Alert


class OpenAlerts:
    """How many are open, how many of them nobody has acknowledged, and the worst: of these first, then of all."""

    def __init__(self) -> None:
        found = list(open_alerts())
        unseen = [alert for alert in found if alert.acknowledged_at is None]
        self.n, self.n_unseen = len(found), len(unseen)
        self.worst: Alert | None = next(iter([*unseen, *found]), None)


def open_alerts_of(request: HttpRequest) -> dict[str, Any]:
    """Asked of the database by pages that show it only."""
    return {"open_alerts": SimpleLazyObject(OpenAlerts)}
