"""Tables of the monitoring app, one noun a file."""

from monitoring.models.alert import Alert, AlertEntry, RuleState
from monitoring.models.channel import ChannelConfig
from monitoring.models.delivery import Delivery
from monitoring.models.escalation import AlertStep, EscalationPolicy, EscalationStep
from monitoring.models.finding import Analysis, Baseline, Finding, Group
from monitoring.models.rule import Rule, RulesRevision
from monitoring.models.series import Chunk, Event, Journal, Rollup, Series
from monitoring.models.silence import Silence

__all__ = [
    "Alert",
    "AlertEntry",
    "AlertStep",
    "Analysis",
    "Baseline",
    "ChannelConfig",
    "Chunk",
    "Delivery",
    "EscalationPolicy",
    "EscalationStep",
    "Event",
    "Finding",
    "Group",
    "Journal",
    "Rollup",
    "Rule",
    "RuleState",
    "RulesRevision",
    "Series",
    "Silence",
]
