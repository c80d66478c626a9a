"""How pages of alerts write what they show."""

from django import template

from monitoring.alerts.series import duration

register = template.Library()


@register.filter
def lasting(seconds: float | None) -> str:
    """`12 min`; `unknown` for None."""
    return "unknown" if seconds is None else duration(seconds)
