"""Where notices go. A new kind of channel is one file here, one line in KINDS, and a form in monitoring.alerts.channel_forms."""

from typing import Any, cast

from django.utils.module_loading import import_string

from monitoring.channels.base import Channel, ChannelError, Notice
from monitoring.channels.log import LogChannel

# There without being set up.
CHANNELS: dict[str, Channel] = {channel.name: channel for channel in (LogChannel(),)}
FALLBACK = LogChannel.name  # hears what another channel could not deliver
# What a person can set up; imported by who sends, for the collector and others need no HTTP client of 8 MB.
KINDS = {
    "webhook": "monitoring.channels.webhook.WebhookChannel",
    "home_assistant": "monitoring.channels.home_assistant.HomeAssistantChannel",
    "mail": "monitoring.channels.mail.MailChannel",
    "mqtt": "monitoring.channels.mqtt.MqttChannel",
    "apprise": "monitoring.channels.apprise_url.AppriseChannel",
}


def class_of(kind: str) -> type[Channel]:
    return cast("type[Channel]", import_string(KINDS[kind]))


def make_channel(kind: str, settings: dict[str, Any]) -> Channel:
    """Raises ChannelError when the kind is gone or the settings are of another version."""
    try:
        return class_of(kind)(**settings)
    except (KeyError, TypeError) as error:
        raise ChannelError(f"its settings can't be read, save it anew: {error}") from error


__all__ = ["CHANNELS", "FALLBACK", "KINDS", "Channel", "ChannelError", "Notice", "class_of", "make_channel"]
