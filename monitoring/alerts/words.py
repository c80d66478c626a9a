"""What a rule says, in words: short for a list, whole for its form."""

from typing import TYPE_CHECKING

from monitoring.alerts.baselines import BUCKET_S
from monitoring.alerts.conditions import Kind
from monitoring.alerts.machine import NoData, Severity
from monitoring.alerts.series import duration, format_value, unit_of
from monitoring.alerts.windows import Aggregate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from monitoring.alerts.policy_services import StepValues
    from monitoring.models import Rule

PER = {1: "s", 60: "min", 3600: "h"}


def condition(rule: "Rule") -> str:
    """`mean of 60 s at least 95 %, for 120 s`."""
    lasting = f", for {rule.for_s} s" if rule.for_s else ""
    if rule.kind == Kind.NO_DATA:
        return f"no sample for {duration(rule.no_data_for_s)}"
    return f"{_compared(rule)} {_side(rule)} {_shown(rule, rule.fire_at)}{lasting}"


def sentence(rule: "Rule", members: "Sequence[str]" = ()) -> str:
    """When it fires, what it then is, and when it clears. `members`: names of the rules that a composite joins."""
    severity = Severity(rule.severity).name.lower()
    if rule.kind == Kind.NO_DATA:
        return (
            f"A {severity} alert fires when a series that had samples within the last day"
            f" has had none for {duration(rule.no_data_for_s)}; it resolves when samples have come again{_kept_for(rule)}."
        )
    lasting = f" for {duration(rule.for_s)}" if rule.for_s else ""
    if rule.kind == Kind.COMPOSITE:
        joined = (" and " if rule.all_of else " or ").join(members) or "(no rule chosen)"
        how = "all of them hold" if rule.all_of else "at least one of them holds"
        return (
            f"A {severity} alert fires when, on one host, {how}{lasting}: {joined}. It resolves when that has not been"
            f" so{f' for {duration(rule.keep_firing_for_s)}' if rule.keep_firing_for_s else ''}."
        )
    critical = f" (critical from {_shown(rule, rule.critical_at)} on)" if rule.critical_at is not None else ""
    turned = "below" if rule.higher_is_worse else "above"
    parts = [
        f"A {severity} alert{critical} fires when, of {rule.series}, the {_compared(rule)} is {_side(rule)}"
        f" {_shown(rule, rule.fire_at)}{lasting}.",
        f"It resolves when it is {turned} {_shown(rule, rule.clear_at)}{_kept_for(rule)}.",
    ]
    if rule.no_data == NoData.FIRE:
        parts.append(f"Missing samples fire it, too, after {duration(rule.no_data_for_s)}.")
    return " ".join(parts)


def escalation(steps: "Sequence[StepValues]", group_wait_s: int) -> str:
    """Whom an alert is told, and whom later: one sentence a step."""
    said = []
    for number, step in enumerate(steps):
        whom = " and ".join(each.name for each in step.channels) or "no channel any more"
        severity = step.least_severity.name.lower()
        of = (
            ""
            if step.least_severity is Severity.INFO
            else f", of {severity} alerts{' and worse' if step.least_severity < Severity.CRITICAL else ''} only"
        )
        if step.after_min == 0:
            said.append(f"{'At once' if number == 0 else 'At once as well'}: {whom}{of}.")
        else:
            said.append(f"If nobody has acknowledged it after {duration(step.after_min * 60)}: {whom}{of}.")
    if group_wait_s:
        said.append(
            f"Fires of one host within {duration(group_wait_s)} go out as one message; a critical one doesn't wait."
        )
    return " ".join(["The log hears everything.", *said])


def _compared(rule: "Rule") -> str:
    window = duration(rule.window_s)
    if rule.kind == Kind.RATE:
        return f"change per {PER.get(rule.per_s, f'{rule.per_s} s')} over {window}"
    if rule.kind == Kind.DEVIATION:
        side = "above or below" if rule.either else "above" if rule.above else "below"
        usual = f"the usual of its last {rule.past_h} h"
        if rule.load:
            usual += f" (idle and busy apart: {rule.load} from {format_value(rule.busy_at, unit_of(rule.load))} on)"
        return f"distance {side} {usual}, in 80 % of the {BUCKET_S} s means of {window},"
    if rule.kind == Kind.FORECAST:
        limit = format_value(rule.limit, unit_of(rule.metric))
        return f"time until {limit}, by the trend of {window} at its slowest,"
    if rule.kind == Kind.COMPOSITE:
        return "number of conditions that hold"
    return {
        Aggregate.LAST: "last value",
        Aggregate.SHARE: f"share of {rule.divisor} in {rule.window_s} s",
    }.get(Aggregate(rule.aggregate), f"{rule.aggregate} of {rule.window_s} s")


def _side(rule: "Rule") -> str:
    return "at least" if rule.higher_is_worse else "at most"


def _shown(rule: "Rule", value: float) -> str:
    return format_value(value, rule.unit)


def _kept_for(rule: "Rule") -> str:
    return f" for {duration(rule.keep_firing_for_s)}" if rule.keep_firing_for_s else ""
