"""The outbox: a row per notice and channel, written in the transaction of the change that it tells."""

from datetime import timedelta

from django.db import models
from django.db.models import Q

from monitoring.models.alert import Alert
from monitoring.models.channel import ChannelConfig

GIVE_UP_AFTER = timedelta(hours=24)


class DeliveryStatus(models.TextChoices):
    WAITING = "waiting", "waiting"
    SENT = "sent", "sent"
    SUPPRESSED = "suppressed", "held back"  # with the reason
    FOLDED = "folded", "folded"  # a later notice said it as well
    DEAD = "dead", "given up"
    DISMISSED = "dismissed", "dismissed"  # given up, and somebody has seen it


class Delivery(models.Model):
    """A notice for a channel. The row is the queue: a worker leases it (`locked_until`), sends, marks it."""

    alert = models.ForeignKey(Alert, models.CASCADE, related_name="deliveries")
    key = models.CharField(
        max_length=120, unique=True
    )  # episode:event:seq:channel, the same over all attempts
    channel = models.CharField(max_length=30)  # `log`, or ChannelConfig.key
    config = models.ForeignKey(ChannelConfig, models.SET_NULL, null=True, related_name="deliveries")
    event = models.CharField(max_length=20)
    text = models.CharField(max_length=1000)
    may_group = models.BooleanField(default=False)  # it may be told with others that begin within the wait
    # Key of the one message that tells it with others: once it was tried, the same rows under the same key.
    group = models.CharField(max_length=130, blank=True)
    status = models.CharField(max_length=10, choices=DeliveryStatus.choices, default=DeliveryStatus.WAITING)
    reason = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField()
    due_at = models.DateTimeField()
    give_up_at = models.DateTimeField()
    locked_until = models.DateTimeField(null=True)
    attempts = models.PositiveIntegerField(default=0)
    last_error = models.CharField(max_length=500, blank=True)  # kept when a later try succeeds
    failed_at = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(null=True)
    dismissed_at = models.DateTimeField(null=True)
    dismissed_by = models.CharField(max_length=150, blank=True)

    class Meta:
        ordering = ("id",)
        verbose_name_plural = "deliveries"
        indexes = (
            # the worker asks for what is due
            models.Index(fields=("due_at",), condition=Q(status="waiting"), name="delivery_waiting"),
            models.Index(fields=("channel", "status"), name="delivery_channel"),  # health, the filtered log
        )

    def __str__(self) -> str:
        return self.key

    @property
    def channel_name(self) -> str:
        """As the person named it; of a deleted one what is left."""
        return self.config.name if self.config is not None else self.channel
