"""Figures of requests in words."""

from decimal import Decimal

from django import template

register = template.Library()
UNKNOWN = "–"


@register.filter
def ms(value: float | None) -> str:
    """1234.5 is `1.23 s`."""
    if value is None:
        return UNKNOWN
    if value >= 100_000:
        return f"{value / 1000:,.0f} s"
    if value >= 1000:
        return f"{value / 1000:.3g} s"
    return f"{value:.3g} ms" if value < 100 else f"{value:.0f} ms"


@register.filter
def number(value: float | None) -> str:
    """Whole numbers with their thousands apart, others with three digits."""
    if value is None:
        return UNKNOWN
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}" if value < 100 else f"{value:,.0f}"


@register.filter
def size(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.3g} {unit}"
        value /= 1024
    return f"{value:.3g} GiB" if value < 100 else f"{value:,.0f} GiB"


@register.filter
def percent(value: float | None) -> str:
    """A share of 1; small ones keep a digit."""
    if value is None:
        return UNKNOWN
    return f"{value * 100:.1f} %" if 0 < value < 0.1 else f"{value * 100:.0f} %"


@register.filter
def usd(value: Decimal | float | None) -> str:
    """Money of clouds: small amounts keep the digits that say something."""
    if value is None:
        return UNKNOWN
    amount = Decimal(value)
    if 0 < amount < Decimal("0.01"):
        return f"${amount:.2g}" if amount >= Decimal("0.0001") else f"${amount:.8f}".rstrip("0")
    return f"${amount:,.2f}"
