"""Where notices go. A new channel is one file here and one line in CHANNELS."""

from monitoring.channels.base import Channel, ChannelError, Notice
from monitoring.channels.log import LogChannel

CHANNELS: dict[str, Channel] = {channel.name: channel for channel in (LogChannel(),)}
FALLBACK = LogChannel.name  # hears what another channel could not deliver

__all__ = ["CHANNELS", "FALLBACK", "Channel", "ChannelError", "Notice"]
