"""Where notices go. A new kind of channel is one file here, one line in KINDS, and a form in monitoring.alerts.channel_forms."""

from typing import Any

from monitoring.channels.apprise_url import AppriseChannel
from monitoring.channels.base import Channel, ChannelError, Notice
from monitoring.channels.home_assistant import HomeAssistantChannel
from monitoring.channels.log import LogChannel
from monitoring.channels.mail import MailChannel
from monitoring.channels.mqtt import MqttChannel
from monitoring.channels.webhook import WebhookChannel

# There without being set up.
CHANNELS: dict[str, Channel] = {channel.name: channel for channel in (LogChannel(),)}
FALLBACK = LogChannel.name  # hears what another channel could not deliver
# What a person can set up.
KINDS: dict[str, type[Channel]] = {
    kind.name: kind
    for kind in (WebhookChannel, HomeAssistantChannel, MailChannel, MqttChannel, AppriseChannel)
}


def make_channel(kind: str, settings: dict[str, Any]) -> Channel:
    """Raises ChannelError when the kind is gone or the settings are of another version."""
    try:
        return KINDS[kind](**settings)
    except (KeyError, TypeError) as error:
        raise ChannelError(f"its settings can't be read, save it anew: {error}") from error


__all__ = ["CHANNELS", "FALLBACK", "KINDS", "Channel", "ChannelError", "Notice", "make_channel"]
