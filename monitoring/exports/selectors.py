"""What there is to export."""

import json
import logging
from typing import Any

import redis
from django.conf import settings
from django.db import DatabaseError
from django.db.models import Count

from monitoring.alerts.selectors import LAST_KEY
from monitoring.exports.families import Family, families_of
from monitoring.models import Alert
from monitoring.readers.gateway import KEY as GATEWAY_KEY

log = logging.getLogger(__name__)


def current_families() -> list[Family] | None:
    """None when the collector has written no sample for ten seconds, or Valkey is away."""
    client = redis.from_url(settings.VALKEY_URL, socket_timeout=1, socket_connect_timeout=1)
    try:
        raw: list[Any] = client.mget(LAST_KEY, GATEWAY_KEY)
    except redis.RedisError:
        return None
    finally:
        client.close()
    if raw[0] is None:
        return None
    return families_of(json.loads(raw[0]), json.loads(raw[1]) if raw[1] else None, open_alerts())


def open_alerts() -> dict[tuple[str, str], int]:
    """Number of open alerts by (severity, state); nothing while the database is away, when the rest is wanted most."""
    rows = Alert.objects.filter(resolved_at=None).values("severity", "state").annotate(n=Count("id"))
    try:
        return {
            (Alert(severity=row["severity"]).severity_name, row["state"]): row["n"] for row in rows.order_by()
        }
    except DatabaseError as error:
        log.warning("open alerts are left out: %s", error)
        return {}
