"""Models packed away, to be made again bit for bit."""

from pathlib import Path

from django.conf import settings
from django.db import models

from inference.models.job import ModelJob


def archive_path(file: str) -> Path:
    return Path(settings.DATA_DIR) / "archive" / file


class ModelArchive(models.Model):
    """One file below DATA_DIR/archive. The row stays when the file was deleted."""

    class State(models.TextChoices):
        PRESENT = "present"
        GONE = "gone"

    name = models.CharField(max_length=200)  # of the model
    engine_kind = models.CharField(max_length=40)  # where it came from
    quantization = models.CharField(max_length=40, blank=True)
    model_digest = models.CharField(max_length=100)  # as that engine named it
    sha256 = models.CharField(max_length=64)  # of its GGUF file
    size_bytes = models.PositiveBigIntegerField()  # of that file
    file = models.CharField(max_length=200, unique=True)
    archive_bytes = models.PositiveBigIntegerField()
    took_s = models.FloatField()
    who = models.CharField(max_length=150)
    at = models.DateTimeField()
    job = models.ForeignKey(ModelJob, models.SET_NULL, null=True, blank=True, related_name="archives")
    state = models.CharField(max_length=8, choices=State, default=State.PRESENT)
    gone_at = models.DateTimeField(null=True, blank=True)
    gone_by = models.CharField(max_length=150, blank=True)

    class Meta:
        ordering = ("-at", "-id")
        indexes = (models.Index(fields=("state", "-at"), name="archive_state_newest"),)

    def __str__(self) -> str:
        return f"archive {self.file} of {self.name}"

    @property
    def path(self) -> Path:
        return archive_path(self.file)

    @property
    def ratio(self) -> float:
        """What the archive takes of the model's size."""
        return self.archive_bytes / self.size_bytes

    @property
    def is_missing(self) -> bool:
        """Somebody took the file away past us."""
        return self.state == self.State.PRESENT and not self.path.is_file()
