"""The first administrator and the one-time login."""

import secrets
from datetime import datetime, timedelta
from hashlib import sha256

from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.db import transaction

from aicleaner_site.models import OneTimeLogin

ADMIN = "admin"
ONE_TIME_LOGIN_LIFE = timedelta(minutes=15)


def ensure_admin(password: str | None) -> str | None:
    """Create user `admin` when there is no superuser; returns the password when one was made up, to be shown once.

    A given `password` (AICLEANER_ADMIN_PASSWORD) is also set on an `admin` that exists: it is the way back in.
    """
    users = get_user_model().objects
    admin = users.filter(username=ADMIN).first()
    if admin is None and users.filter(is_superuser=True).exists():
        return None
    if admin is None:
        made_up = None if password else secrets.token_urlsafe(12)
        users.create_superuser(username=ADMIN, password=password or made_up)
        return made_up
    if password and not admin.check_password(password):
        admin.set_password(password)
        admin.save(update_fields=["password"])
    return None


def create_one_time_login(user: User, now: datetime) -> str:
    """A new token for `user`; earlier ones that were never used stop working."""
    token = secrets.token_urlsafe(24)
    with transaction.atomic():
        OneTimeLogin.objects.filter(user=user, used_at=None).delete()
        OneTimeLogin.objects.filter(expires_at__lt=now - timedelta(days=30)).delete()
        OneTimeLogin.objects.create(
            user=user, token_sha256=_hash(token), created_at=now, expires_at=now + ONE_TIME_LOGIN_LIFE
        )
    return token


def use_one_time_login(token: str, now: datetime) -> User | None:
    """The user whom `token` logs in, or None; of two requests at once only one gets the user."""
    row = OneTimeLogin.objects.select_related("user").filter(token_sha256=_hash(token)).first()
    if row is None or not row.user.is_active:
        return None
    taken = OneTimeLogin.objects.filter(pk=row.pk, used_at=None, expires_at__gt=now).update(used_at=now)
    return row.user if taken else None


def _hash(token: str) -> str:
    return sha256(token.encode()).hexdigest()
