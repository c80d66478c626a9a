"""Figures in words; unknown is –, never 0."""

from decimal import Decimal

from django import template

from inference import sizes

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
    return UNKNOWN if value is None else sizes.size(value)


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


@register.filter
def exact_percent(value: float | None) -> str:
    """With a digit, where one in a thousand counts."""
    return UNKNOWN if value is None else f"{value * 100:.1f} %"


@register.filter
def percent_of(part: float | None, whole: float | None) -> str:
    """For the width of a bar, 0 to 100."""
    return f"{min(100 * (part or 0) / whole, 100):.1f}" if whole else "0"


@register.filter
def short_digest(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12] or UNKNOWN
