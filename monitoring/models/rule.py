"""Rules: which series, when it fires, when it clears."""

from typing import ClassVar

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from monitoring.alerts.evaluator import RuleSpec
from monitoring.alerts.machine import NoData, Severity, Terms
from monitoring.alerts.series import SelectorError, format_value, parse_selector, unit_of
from monitoring.alerts.windows import Aggregate

# Not sampled by a reader: seconds since a host's newest sample, judged by the worker, since a dead collector can't.
SAMPLE_AGE = "sample_age_s"
DAY_S = 24 * 3600
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
    """A condition on every series that `series` selects."""

    name = models.CharField(max_length=100, unique=True)
    key = models.CharField(
        max_length=30, unique=True, null=True, blank=True, editable=False
    )  # of a default rule
    enabled = models.BooleanField(default=True)
    series = models.CharField(
        max_length=300,
        help_text='Name of a series, with labels where only some are meant: disk_used_percent{mount=~"/data.*"}',
    )
    aggregate = models.CharField(
        max_length=10,
        default=Aggregate.LAST,
        choices=[(each.value, each.value) for each in Aggregate],
        help_text="What is compared: last, mean, min or max of the window, or its share of the divisor in per cent",
    )
    window_s = _seconds(
        "window (s)", 10, "Seconds of the window; 80 % of its samples have to be there", least=1, most=3600
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
    advice = models.CharField(
        max_length=300, blank=True, help_text="What to do about it; stands in each notice"
    )
    set_by = models.CharField(max_length=10, choices=SetBy.choices, default=SetBy.PERSON, editable=False)
    note = models.CharField(max_length=300, blank=True, editable=False)  # why it was set so
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Errors by field: the selector, the side of clear_at and critical_at, the divisor."""
        errors: dict[str, str] = {}
        try:
            parse_selector(self.series)
        except SelectorError as error:
            errors["series"] = str(error)
        if self.fire_at is not None and self.clear_at is not None:
            if self.above and self.clear_at >= self.fire_at:
                errors["clear_at"] = (
                    f"A rule that fires above {self.fire_at:g} has to clear below it: give less."
                )
            if not self.above and self.clear_at <= self.fire_at:
                errors["clear_at"] = (
                    f"A rule that fires below {self.fire_at:g} has to clear above it: give more."
                )
        if self.fire_at is not None and self.critical_at is not None:
            beyond = self.critical_at - self.fire_at if self.above else self.fire_at - self.critical_at
            if beyond < 0:
                errors["critical_at"] = "It is reached before 'fire at': give a value beyond that."
        if self.aggregate == Aggregate.SHARE and not self.divisor:
            errors["divisor"] = "A share needs the metric that it is a share of."
        if self.aggregate != Aggregate.SHARE and self.divisor:
            errors["divisor"] = "Only a share has a divisor: clear it, or choose 'share'."
        if errors:
            raise ValidationError(errors)

    @property
    def metric(self) -> str:
        return parse_selector(self.series).metric

    @property
    def unit(self) -> str:
        return "%" if self.aggregate == Aggregate.SHARE else unit_of(self.metric)

    def spec(self) -> RuleSpec:
        """What the evaluator needs."""
        return RuleSpec(
            id=self.pk,
            selector=parse_selector(self.series),
            terms=Terms(
                fire_at=self.fire_at,
                clear_at=self.clear_at,
                above=self.above,
                critical_at=self.critical_at,
                severity=Severity(self.severity),
                for_s=self.for_s,
                keep_firing_for_s=self.keep_firing_for_s,
                no_data=NoData(self.no_data),
                no_data_for_s=self.no_data_for_s,
            ),
            aggregate=Aggregate(self.aggregate),
            window_s=self.window_s,
            divisor=self.divisor,
            min_count=self.min_count,
        )

    def condition(self) -> str:
        """In words: `mean of 60 s at least 95 %, for 120 s`."""
        what = {
            Aggregate.LAST: "last value",
            Aggregate.SHARE: f"share of {self.divisor} in {self.window_s} s",
        }.get(Aggregate(self.aggregate), f"{self.aggregate} of {self.window_s} s")
        side = "at least" if self.above else "at most"
        lasting = f", for {self.for_s} s" if self.for_s else ""
        return f"{what} {side} {format_value(self.fire_at, self.unit)}{lasting}"


class RulesRevision(models.Model):
    """One row whose number rises with each change that an evaluator has to read anew: rules, and ends by hand."""

    ROW: ClassVar[int] = 1
    number = models.PositiveBigIntegerField(default=0)

    def __str__(self) -> str:
        return str(self.number)
