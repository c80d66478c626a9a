"""The product's own way into the gateway: it works whoever else needs a key."""

from django.conf import settings

from inference.gateway.tokens import gateway_secret, internal_token


def secret() -> bytes:
    return gateway_secret(settings.SECRET_KEY)


def gateway_key() -> str:
    """For a client that sends it by itself. It is made of the secret key, kept nowhere, and never passed on to an engine."""
    return internal_token(secret())


def gateway_headers() -> dict[str, str]:
    return {"Authorization": f"Bearer {gateway_key()}"}
