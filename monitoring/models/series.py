"""Series, their stored forms, and what happened."""

from django.db import models


class Series(models.Model):
    """A metric with its labels on one host, e.g. `disk_used_percent{mount=/}`."""

    host = models.CharField(max_length=100)
    name = models.CharField(max_length=200)

    class Meta:
        verbose_name_plural = "series"
        constraints = (models.UniqueConstraint(fields=("host", "name"), name="series_of_host"),)

    def __str__(self) -> str:
        return f"{self.host} {self.name}"


class Journal(models.Model):
    """One second of all series of one host, until its chunk is packed: a crash loses a second, not a chunk."""

    host = models.CharField(max_length=100)
    at = models.BigIntegerField()  # whole seconds since 1970, UTC
    data = models.BinaryField()  # uint32 series ids, then float64 values

    class Meta:
        verbose_name = "journal row"
        constraints = (models.UniqueConstraint(fields=("host", "at"), name="journal_of_host"),)

    def __str__(self) -> str:
        return f"{self.host} {self.at}"


class Chunk(models.Model):
    """CHUNK_S seconds of one series, a value a second, packed."""

    series = models.ForeignKey(Series, models.CASCADE)
    start = models.BigIntegerField()  # seconds since 1970, a multiple of CHUNK_S
    data = models.BinaryField()

    class Meta:
        constraints = (models.UniqueConstraint(fields=("series", "start"), name="chunk_of_series"),)
        indexes = (models.Index(fields=("start",), name="chunk_start"),)  # retention deletes the oldest

    def __str__(self) -> str:
        return f"{self.series_id} {self.start}"


class Rollup(models.Model):
    """BUCKETS buckets of `tier` seconds: minimum, mean, maximum, count."""

    series = models.ForeignKey(Series, models.CASCADE)
    tier = models.PositiveIntegerField()
    start = models.BigIntegerField()  # seconds since 1970, a multiple of tier * BUCKETS
    data = models.BinaryField()

    class Meta:
        constraints = (models.UniqueConstraint(fields=("series", "tier", "start"), name="rollup_of_series"),)
        indexes = (
            models.Index(fields=("tier", "start"), name="rollup_start"),
        )  # retention deletes the oldest

    def __str__(self) -> str:
        return f"{self.series_id} {self.tier} {self.start}"


class Event(models.Model):
    """Something that happened and that a person may want to see beside the charts."""

    host = models.CharField(max_length=100)
    at = models.DateTimeField(db_index=True)
    kind = models.CharField(max_length=20)
    text = models.CharField(max_length=300)

    class Meta:
        ordering = ("-at",)

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.text}"
