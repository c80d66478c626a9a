"""Many tests at once."""

from collections.abc import Sequence

import numpy as np
import scipy  # scipy.stats is loaded at its first use: an idle process saves 45 MB


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the given order (Holm 1979): for the metrics of one decision."""
    if not p_values:
        return []
    order = np.argsort(p_values)
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.minimum(np.maximum.accumulate(np.array(p_values)[order] * factors), 1.0)
    return [float(adjusted[rank]) for rank in np.argsort(order)]


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the given order (false discovery rate): for the cells of a grid."""
    return [float(each) for each in scipy.stats.false_discovery_control(p_values)] if p_values else []
