"""From what is stored of a channel to the channel, and from a page of the console to what a notice says of it."""

from django.conf import settings
from django.urls import reverse

from monitoring.channels import Channel, ChannelError, make_channel
from monitoring.models import ChannelConfig
from safeguards.sealing import SealError, channel_secrets


def channel_of(config: ChannelConfig) -> Channel:
    """Raises ChannelError that says what is wrong with it."""
    try:
        return make_channel(config.kind, {**config.settings, **channel_secrets.unseal(config.sealed)})
    except SealError as error:
        raise ChannelError(str(error)) from error


def link_to(page: str, *args: object) -> str:
    """How people reach that page; '' where nobody has said."""
    return f"{settings.PUBLIC_URL}{reverse(page, args=args)}" if settings.PUBLIC_URL else ""
