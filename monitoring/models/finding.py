"""What the analysis of series found, and what it knows of them."""

from django.db import models

from monitoring.alerts.series import split_series
from monitoring.analysis import words
from monitoring.analysis.causes import Explanation
from monitoring.analysis.study import Kind
from monitoring.models.series import Series


class Group(models.TextChoices):
    """In the order of the page."""

    NOW = "now", "Now wrong"
    HEADING = "heading", "Heading somewhere"
    CHANGED = "changed", "Changed"
    KNOWING = "knowing", "Worth knowing"


GROUP_OF = {
    Kind.ANOMALY: Group.NOW,
    Kind.FORECAST: Group.HEADING,
    Kind.TREND: Group.HEADING,
    Kind.CHANGE: Group.CHANGED,
    Kind.VOLATILITY: Group.KNOWING,
}


class Finding(models.Model):
    """One thing said about one series, from `found_at` until `ended_at`. While it is open its facts are kept new.

    Those that began together are one incident: the leading one has no `leader`, the others have it as theirs. As long as one of
    them is open, so is the leading one. An incident is dismissed as a whole.

    A dismissed one is hidden until it ends or changes: `dismissed_size` is how much of it there was then."""

    host = models.CharField(max_length=100)
    series = models.CharField(max_length=200)
    leader = models.ForeignKey("self", models.SET_NULL, null=True, blank=True, related_name="members")
    kind = models.CharField(
        max_length=10,
        choices=[
            (Kind.ANOMALY.value, "unlike its past"),
            (Kind.FORECAST.value, "reaches a limit"),
            (Kind.TREND.value, "rises or falls"),
            (Kind.CHANGE.value, "another level"),
            (Kind.VOLATILITY.value, "another scatter"),
        ],
    )
    p = models.FloatField()
    size = models.FloatField()  # signed, in the kind's own unit
    facts = models.JSONField()
    began_at = models.DateTimeField()  # of what was found: the window, the change
    found_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    n_missed = models.PositiveIntegerField(default=0)  # looks in a row that did not find it again
    dismissed_at = models.DateTimeField(null=True, blank=True)
    dismissed_by = models.CharField(max_length=150, blank=True)
    dismissed_why = models.CharField(max_length=300, blank=True)
    dismissed_size = models.FloatField(null=True, blank=True)

    class Meta:
        ordering = ("-found_at",)
        constraints = (
            models.UniqueConstraint(
                fields=("host", "kind", "series"),
                condition=models.Q(ended_at=None),
                name="one_open_finding_of_a_kind",
            ),
        )
        indexes = (
            models.Index(fields=("host", "ended_at"), name="finding_host_ended"),
        )  # the page's question

    def __str__(self) -> str:
        return f"{self.series} {self.sentence}"

    @property
    def is_open(self) -> bool:
        return self.ended_at is None

    @property
    def group(self) -> Group:
        return GROUP_OF[Kind(self.kind)]

    @property
    def metric(self) -> str:
        return split_series(self.series)[0]

    @property
    def sentence(self) -> str:
        return words.sentence(self.kind, self.series, self.facts)

    @property
    def advice(self) -> str:
        return words.advice(self.kind, self.series, self.size)

    @property
    def explanations(self) -> list[Explanation]:
        """Of a fall of tokens per second: of each model that was slower, what else was otherwise."""
        return [Explanation.of_json(each) for each in self.facts.get("why", ())]

    @property
    def method(self) -> str:
        return words.method(self.kind, self.facts)


class Baseline(models.Model):
    """What is usual for a series (monitoring/analysis/usual.py)."""

    series = models.OneToOneField(Series, models.CASCADE)
    at = models.DateTimeField()
    usual = models.JSONField()

    def __str__(self) -> str:
        return f"usual of {self.series}"


class Analysis(models.Model):
    """What was looked at last, one row a host; `since` is how far back its series reach."""

    host = models.CharField(max_length=100, unique=True)
    looked_at = models.DateTimeField(null=True)
    studied_at = models.DateTimeField(null=True)
    since = models.DateTimeField(null=True)
    n_series = models.PositiveIntegerField(default=0)
    n_left_out = models.PositiveIntegerField(default=0)
    n_judged = models.PositiveIntegerField(default=0)  # by the last look
    n_tests = models.PositiveIntegerField(default=0)  # of the last study

    class Meta:
        verbose_name_plural = "analyses"

    def __str__(self) -> str:
        return f"analysis of {self.host}"
