"""Instants as engines write them."""

import re
from datetime import UTC, datetime

FOR_EVER_YEARS = 50  # Ollama says 'never' by a date centuries away
_TOO_EXACT = re.compile(r"(\.\d{6})\d+")


def read_instant(text: object) -> datetime | None:
    """Ollama writes nine digits of a second, more than datetime reads; None for what is no instant."""
    try:
        found = datetime.fromisoformat(_TOO_EXACT.sub(r"\1", str(text)))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def is_for_ever(instant: datetime, now: datetime) -> bool:
    return instant.year - now.year > FOR_EVER_YEARS
