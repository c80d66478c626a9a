"""Rules: which series, when it fires, when it clears."""

from collections.abc import Sequence
from typing import ClassVar

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from monitoring.alerts import words
from monitoring.alerts.baselines import Side
from monitoring.alerts.conditions import Kind, RuleSpec
from monitoring.alerts.machine import NoData, Severity, Terms
from monitoring.alerts.series import Selector, SelectorError, parse_selector, unit_of
from monitoring.alerts.windows import Aggregate

# Not sampled by a reader: seconds since a host's newest sample, judged by the worker, since a dead collector can't.
SAMPLE_AGE = "sample_age_s"
# Seconds that the evaluator is behind the samples: sampled by the collector, judged by the worker, since an evaluator
# that is late judges itself late.
EVALUATOR_LAG = "evaluator_lag_s"
JUDGED_BY_WORKER = (SAMPLE_AGE, EVALUATOR_LAG)
HOUR_S, DAY_S = 3600, 24 * 3600
KINDS = [
    (Kind.THRESHOLD.value, "threshold: a value, or an aggregate of a window"),
    (Kind.RATE.value, "rate of change: how fast it rises or falls"),
    (Kind.DEVIATION.value, "deviation: unlike its own past"),
    (Kind.FORECAST.value, "forecast: a limit will be reached"),
    (Kind.NO_DATA.value, "no data: samples stay away"),
    (Kind.COMPOSITE.value, "composite: all or any of other rules hold"),
]
# Least and most seconds of a window.
WINDOWS_S = {
    Kind.THRESHOLD: (1, HOUR_S),
    Kind.RATE: (10, DAY_S),
    Kind.DEVIATION: (60, HOUR_S),
    Kind.FORECAST: (600, 7 * DAY_S),
}
SEVERITIES = [(each.value, each.name.lower()) for each in Severity]


class SetBy(models.TextChoices):
    """Who set a rule last; only what config.yaml set is set by it again."""

    CONFIG = "config", "config.yaml"
    PROFILE = "profile", "a profile"
    PERSON = "person", "a person"


def _seconds(
    label: str, default: int, help_text: str, *, least: int = 0, most: int = DAY_S
) -> models.PositiveIntegerField:  # type: ignore[type-arg]
    limits = [MinValueValidator(least), MaxValueValidator(most)]
    return models.PositiveIntegerField(label, default=default, validators=limits, help_text=help_text)


class Rule(models.Model):
    """A condition on every series that `series` selects, or (a composite) on other rules of the same host.

    One that is switched off raises no alerts; composites that name it judge it all the same."""

    name = models.CharField(max_length=100, unique=True)
    key = models.CharField(
        max_length=30, unique=True, null=True, blank=True, editable=False
    )  # of a default rule
    enabled = models.BooleanField(default=True)
    kind = models.CharField(
        "condition", max_length=10, choices=KINDS, default=Kind.THRESHOLD.value, help_text="What is compared"
    )
    series = models.CharField(
        max_length=300,
        blank=True,
        help_text='Name of a series, with labels where only some are meant: disk_used_percent{mount=~"/data.*"}',
    )
    aggregate = models.CharField(
        max_length=10,
        default=Aggregate.LAST,
        choices=[(each.value, each.value) for each in Aggregate],
        help_text="What is compared: last, mean, min or max of the window, or its share of the divisor in per cent",
    )
    window_s = _seconds(
        "window (s)",
        10,
        "Seconds of the window; 80 % of its samples have to be there",
        least=1,
        most=7 * DAY_S,
    )
    divisor = models.CharField(
        max_length=200,
        blank=True,
        help_text="For a share: the metric whose sum is 100 %, e.g. gateway_requests_per_s",
    )
    min_count = models.FloatField(
        default=0,
        validators=[MinValueValidator(0)],
        help_text="For a share: least sum of the divisor in the window",
    )
    per_s = models.PositiveIntegerField(
        "per",
        default=60,
        choices=[(1, "second"), (60, "minute"), (3600, "hour")],
        help_text="The change in so much time",
    )
    either = models.BooleanField("either side", default=False, help_text="Above or below what is usual")
    past_h = models.PositiveSmallIntegerField(
        "past (h)",
        default=24,
        validators=[MinValueValidator(1), MaxValueValidator(168)],
        help_text="Hours of its own past that say what is usual; an hour has to be there",
    )
    load = models.CharField(
        max_length=200,
        blank=True,
        help_text="The metric that tells busy from idle, e.g. gateway_running; empty: no difference",
    )
    busy_at = models.FloatField("busy from", null=True, blank=True, help_text="Busy is from this load on")
    least = models.FloatField(
        "least difference",
        default=0,
        validators=[MinValueValidator(0)],
        help_text="Nearer to the usual than this doesn't count, in the unit of the series",
    )
    limit = models.FloatField(null=True, blank=True, help_text="The value that must not be reached, e.g. 100")
    members = models.ManyToManyField(
        "self", symmetrical=False, blank=True, help_text="The rules that it joins"
    )
    all_of = models.BooleanField("all of them", default=True, help_text="Off: any of them is enough")
    above = models.BooleanField("fires above", default=True, help_text="Off: it fires below")
    fire_at = models.FloatField(help_text="It fires when this value is reached")
    clear_at = models.FloatField(
        help_text="It clears beyond this value, which lies on the harmless side of 'fire at'"
    )
    critical_at = models.FloatField(null=True, blank=True, help_text="From this value on it is critical")
    severity = models.PositiveSmallIntegerField(default=Severity.WARNING, choices=SEVERITIES)
    for_s = _seconds("for (s)", 60, "Seconds that the condition lasts before it fires")
    keep_firing_for_s = _seconds("keep firing for (s)", 60, "Seconds that it is clear before it resolves")
    no_data = models.CharField(
        "missing data",
        max_length=10,
        default=NoData.OK,
        choices=[
            (NoData.KEEP_LAST.value, "keep the last state"),
            (NoData.OK.value, "are ok"),
            (NoData.FIRE.value, "fire"),
        ],
        help_text="They never resolve an alert",
    )
    no_data_for_s = _seconds("no data for (s)", 120, "Seconds without data until that counts", least=1)
    cooldown_s = _seconds(
        "cooldown (s)", 300, "Least seconds between notices of one series; a rise in severity passes"
    )
    repeat_s = _seconds(
        "repeat (s)", 4 * 3600, "Seconds until a firing alert is told again; 0: never", most=30 * DAY_S
    )
    policy = models.ForeignKey(
        "monitoring.EscalationPolicy",
        models.SET_NULL,
        verbose_name="escalation",
        related_name="rules",
        null=True,
        blank=True,
        help_text="Whom it tells, and whom later while nobody acknowledges it",
    )
    no_policy = models.BooleanField(default=False)  # all channels at once, though there is a default policy
    advice = models.CharField(
        max_length=300, blank=True, help_text="What to do about it; stands in each notice"
    )
    set_by = models.CharField(max_length=10, choices=SetBy.choices, default=SetBy.PERSON, editable=False)
    note = models.CharField(max_length=300, blank=True, editable=False)  # why it was set so
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("name",)
        constraints = (
            models.CheckConstraint(
                condition=models.Q(no_policy=False) | models.Q(policy=None), name="no_policy_or_one"
            ),
        )

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Errors by field; of a composite's members its form."""
        errors: dict[str, str] = {}
        kind = Kind(self.kind) if self.kind in list(Kind) else Kind.THRESHOLD
        if kind is not Kind.COMPOSITE:
            errors |= self._errors_of_series(kind)
        if kind in WINDOWS_S and self.window_s is not None:
            low, high = WINDOWS_S[kind]
            if not low <= self.window_s <= high:
                errors["window_s"] = f"Of this condition it has {low} to {high} seconds."
        if kind not in (Kind.COMPOSITE, Kind.NO_DATA):
            errors |= self._errors_of_thresholds()
        if kind is Kind.FORECAST and self.limit is None:
            errors["limit"] = "A forecast needs the value that is to be foreseen."
        if kind is Kind.FORECAST and self.fire_at is not None and self.fire_at <= 0:
            errors["fire_at"] = "Give the hours ahead that are to be foreseen, more than 0."
        if kind is Kind.DEVIATION and self.load and self.busy_at is None:
            errors["busy_at"] = "Give the load from which on it is busy, or no load."
        if errors:
            raise ValidationError(errors)

    def _errors_of_series(self, kind: Kind) -> dict[str, str]:
        if not self.series:
            return {"series": "Choose a series: begin to type, and the names that exist are offered."}
        errors = {}
        try:
            selector = parse_selector(self.series, typed=True)
            if selector.metric in JUDGED_BY_WORKER and selector.matchers:
                errors["series"] = "What the worker judges is named without labels, and goes for every host."
        except SelectorError as error:
            errors["series"] = str(error)
        if self.series in JUDGED_BY_WORKER and kind is not Kind.THRESHOLD:
            errors["series"] = "What the worker judges goes with a threshold only."
        share = kind is Kind.THRESHOLD and self.aggregate == Aggregate.SHARE
        if share and not self.divisor:
            errors["divisor"] = "A share needs the metric that it is a share of."
        if kind is Kind.THRESHOLD and not share and self.divisor:
            errors["divisor"] = "Only a share has a divisor: clear it, or choose 'share'."
        for name, text in (("divisor", self.divisor if share else ""), ("load", self.load)):
            try:
                if text:
                    parse_selector(text, typed=True)
            except SelectorError as error:
                errors[name] = str(error)
        return errors

    def _errors_of_thresholds(self) -> dict[str, str]:
        errors = {}
        fire, clear, critical = self.fire_at, self.clear_at, self.critical_at
        if fire is not None and clear is not None:
            if self.higher_is_worse and clear >= fire:
                errors["clear_at"] = f"A rule that fires above {fire:g} has to clear below it: give less."
            if not self.higher_is_worse and clear <= fire:
                errors["clear_at"] = f"A rule that fires below {fire:g} has to clear above it: give more."
        if fire is not None and critical is not None:
            beyond = critical - fire if self.higher_is_worse else fire - critical
            if beyond < 0:
                errors["critical_at"] = "It is reached before 'fire at': give a value beyond that."
        return errors

    @property
    def metric(self) -> str:
        return parse_selector(self.series).metric if self.series else ""

    @property
    def higher_is_worse(self) -> bool:
        """Of what is compared: a deviation counts away from the usual, a forecast in hours that are left."""
        if self.kind in (Kind.THRESHOLD, Kind.RATE):
            return self.above
        return self.kind != Kind.FORECAST

    @property
    def unit(self) -> str:
        """Of what is compared."""
        if self.kind == Kind.RATE:
            return f"{unit_of(self.metric)}/{words.PER[self.per_s]}"
        if self.kind == Kind.DEVIATION:
            return "σ"
        if self.kind == Kind.FORECAST:
            return "h"
        if self.kind == Kind.COMPOSITE:
            return f"of {len(self.members.all())}" if self.pk else ""
        return "%" if self.aggregate == Aggregate.SHARE else unit_of(self.metric)

    def spec(self, members: Sequence[int] | None = None) -> RuleSpec:
        """What the evaluator needs. `members` in place of the stored ones: of a composite that is not stored yet."""
        kind = Kind(self.kind)
        if kind is Kind.COMPOSITE and members is None:
            members = [each.pk for each in self.members.all()]
        members = members if kind is Kind.COMPOSITE and members else ()
        fire_at, clear_at, no_data = self.fire_at, self.clear_at, NoData(self.no_data)
        if kind is Kind.COMPOSITE:
            fire_at = clear_at = float(max(len(members), 1) if self.all_of else 1)
            no_data = NoData.KEEP_LAST
        elif kind is Kind.NO_DATA:
            fire_at, clear_at, no_data = 1.0, 1.0, NoData.FIRE
        compares = kind not in (Kind.COMPOSITE, Kind.NO_DATA)
        side = Side.EITHER if self.either else Side.ABOVE if self.above else Side.BELOW
        share = kind is Kind.THRESHOLD and self.aggregate == Aggregate.SHARE
        return RuleSpec(
            id=self.pk or 0,
            selector=parse_selector(self.series) if self.series else Selector("none"),
            terms=Terms(
                fire_at=fire_at,
                clear_at=clear_at,
                above=self.higher_is_worse,
                critical_at=self.critical_at if compares else None,
                severity=Severity(self.severity),
                for_s=0 if kind is Kind.NO_DATA else self.for_s,
                keep_firing_for_s=self.keep_firing_for_s,
                no_data=no_data,
                no_data_for_s=self.no_data_for_s,
            ),
            kind=kind,
            aggregate=Aggregate(self.aggregate),
            window_s=self.window_s,
            companion=self.divisor if share else self.load if kind is Kind.DEVIATION else "",
            min_count=self.min_count,
            per_s=self.per_s,
            side=side,
            past_s=self.past_h * HOUR_S,
            busy_at=self.busy_at,
            least=self.least,
            limit=self.limit or 0.0,
            members=tuple(members),
            all_of=self.all_of,
            part=not self.enabled,
        )

    def condition(self) -> str:
        """In words: `mean of 60 s at least 95 %, for 120 s`."""
        return words.condition(self)


class RulesRevision(models.Model):
    """One row whose number rises with each change that an evaluator has to read anew: rules, and ends by hand."""

    ROW: ClassVar[int] = 1
    number = models.PositiveBigIntegerField(default=0)

    def __str__(self) -> str:
        return str(self.number)
