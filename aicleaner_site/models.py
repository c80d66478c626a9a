from django.conf import settings
from django.db import models


class OneTimeLogin(models.Model):
    """A link that logs its user in once; only a hash of the token is kept."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    token_sha256 = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"one-time login of {self.user} until {self.expires_at:%F %T}"
