"""How sizes and shares are written; unknown is –, never 0."""

from django import template

register = template.Library()
UNKNOWN = "–"


@register.filter
def amount(n_bytes: float | None) -> str:
    """1.25 GiB, 38.4 MiB, 512 B"""
    if n_bytes is None:
        return UNKNOWN
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if n_bytes >= factor:
            found = n_bytes / factor
            return f"{found:,.{0 if found >= 99.95 else 1 if found >= 9.995 else 2}f} {unit}"
    return f"{n_bytes:.0f} B"


@register.filter
def percent(share: float | None) -> str:
    return UNKNOWN if share is None else f"{share:.0%}"


@register.filter
def exact_percent(share: float | None) -> str:
    """With a digit, where one in a thousand counts."""
    return UNKNOWN if share is None else f"{share:.1%}"


@register.filter
def percent_of(part: float | None, whole: float | None) -> str:
    """For the width of a bar, 0 to 100."""
    return f"{min(100 * (part or 0) / whole, 100):.1f}" if whole else "0"


@register.filter
def count(number: float | None) -> str:
    return UNKNOWN if number is None else f"{number:,.0f}"


@register.filter
def short_digest(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12] or UNKNOWN
