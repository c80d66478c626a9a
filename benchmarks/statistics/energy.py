"""Energy and money per token."""

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from benchmarks.load.result import Result

NO_COST = "Needs the GPU power and config.yaml's electricity_price_per_kwh."


class Energy(BaseModel):
    """What was read beside the runs. `power`: (seconds since 1970, watts of all GPUs together), in order of time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    power: list[tuple[float, float]] = Field(default_factory=list)
    idle_w: float | None = Field(default=None, ge=0)
    tariff_per_kwh: float | None = Field(default=None, ge=0)
    hardware_per_hour: float = Field(default=0.0, ge=0, description="amortised price of the machine")
    price_per_mtok: float | None = Field(default=None, ge=0, description="a cloud's list price, in USD")
    no_cost: str = Field(default=NO_COST, description="why the cost is unknown, where it is")


def joules(energy: Energy, results: Sequence[Result]) -> float | None:
    """Integral of the power over the windows by the trapezoidal rule; None where a window is not covered by readings."""
    if len(energy.power) < 2:
        return None
    at, watts = np.array(energy.power).T
    total = 0.0
    for each in results:
        if each.window is None:
            continue
        start = each.started_at.timestamp() + each.window.start_ms / 1000
        end = each.started_at.timestamp() + each.window.end_ms / 1000
        if start < at[0] - 1 or end > at[-1] + 1:  # readings come once a second
            return None
        inner = at[(at > start) & (at < end)]
        axis = np.concatenate([[start], inner, [end]])
        total += float(np.trapezoid(np.interp(axis, at, watts), axis))
    return total


def cost_per_mtok(energy: Energy, spent_joules: float | None, seconds: float, tokens: float) -> float | None:
    """In the tariff's currency; of a cloud in USD."""
    if energy.price_per_mtok is not None:
        return energy.price_per_mtok
    if energy.tariff_per_kwh is None or spent_joules is None:
        return None
    spent = spent_joules / 3.6e6 * energy.tariff_per_kwh + seconds / 3600 * energy.hardware_per_hour
    return spent / tokens * 1e6
