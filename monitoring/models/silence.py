"""Silences: what is not told for a while."""

from datetime import datetime

from django.core.exceptions import ValidationError
from django.db import models

from monitoring.alerts.series import Matcher, SelectorError, parse_matchers


class Silence(models.Model):
    """Notices of alerts whose labels fit all matchers are held back from `start` to `end`. Evaluation goes on."""

    matchers = models.TextField(max_length=1000)
    start = models.DateTimeField()
    end = models.DateTimeField()
    author = models.CharField(max_length=150)
    reason = models.CharField(max_length=300)
    closed = models.BooleanField(
        default=False, editable=False
    )  # its end is dealt with: what still fires was told

    class Meta:
        ordering = ("-end",)
        indexes = (models.Index(fields=("end",), name="silence_end"),)

    def __str__(self) -> str:
        return self.matchers

    def clean(self) -> None:
        try:
            if not parse_matchers(self.matchers):
                raise ValidationError(
                    {"matchers": "Give at least one, such as rule=Memory: none would silence everything."}
                )
        except SelectorError as error:
            raise ValidationError({"matchers": str(error)}) from error
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise ValidationError({"end": "It ends before it begins."})

    def parsed(self) -> tuple[Matcher, ...]:
        return parse_matchers(self.matchers)

    def fits(self, labels: dict[str, str]) -> bool:
        return all(each.fits(labels) for each in self.parsed())

    def is_active(self, now: datetime) -> bool:
        return self.start <= now < self.end
