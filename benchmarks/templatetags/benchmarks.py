"""How durations are written."""

from django import template

register = template.Library()


@register.filter
def duration(seconds: float) -> str:
    """12 s, 3 min 20 s, 1 h 5 min"""
    whole = max(round(seconds), 1)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest and minutes < 10 else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
