"""From the stored configuration of a channel to the channel."""

from monitoring.channels import Channel, ChannelError, make_channel
from monitoring.models import ChannelConfig
from monitoring.sealing import SealError, unseal


def channel_of(config: ChannelConfig) -> Channel:
    """Raises ChannelError that says what is wrong with it."""
    try:
        return make_channel(config.kind, {**config.settings, **unseal(config.sealed)})
    except SealError as error:
        raise ChannelError(str(error)) from error
