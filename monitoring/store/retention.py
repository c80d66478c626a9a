"""How long each tier is kept."""

from monitoring.store.rollups import RAW_S

HOUR = 3600
# The 10 s tier is kept for `metrics_retention_hours`; the coarser ones longer, never shorter than that.
RAW_KEPT_S, MINUTES_KEPT_S, HOURS_KEPT_S = 48 * HOUR, 30 * 24 * HOUR, 400 * 24 * HOUR


def kept_s(tier: int, retention_s: int) -> int:
    """Seconds for which samples of `tier` are certainly there."""
    if tier == RAW_S:
        return min(RAW_KEPT_S, retention_s)
    return {10: retention_s, 60: max(MINUTES_KEPT_S, retention_s), 3600: max(HOURS_KEPT_S, retention_s)}[tier]
