"""Keeps this machine present in Home Assistant over each MQTT channel that asks for it.

It runs in threads of the worker: it needs what the worker has (database, Valkey, settings), a process of its own would cost
70 MB for a few messages a minute, and in the collector a broker that hangs would stand beside the evaluation of rules."""

import json
import logging
import socket
import threading
import time
from typing import Any

import redis
from django.conf import settings
from django.db import DatabaseError, close_old_connections, connections
from django.utils import timezone
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import MQTTErrorCode

from monitoring.alerts import selectors, services
from monitoring.alerts.configured import channel_of
from monitoring.channels import ChannelError
from monitoring.channels.mqtt import MqttChannel
from monitoring.home_assistant import PRESS, STATE_EVERY_S, Device, state_of
from monitoring.models import ChannelConfig
from safeguards.addresses import AddressError

LOCK_KEY, LOCK_S = "aicleaner:presence", 30  # one worker of several does it
LOOK_EVERY_S = 5.0
FIRST_PAUSE_S, MOST_PAUSE_S = 1.0, 60.0
log = logging.getLogger("monitoring.presence")


class Presence(threading.Thread):
    """One broker: connects, announces the device, publishes its state, hears the button; again and again until `end`."""

    def __init__(self, channel: MqttChannel, device: Device, valkey: redis.Redis) -> None:
        super().__init__(name=f"presence {channel.host}", daemon=True)
        self.channel, self.device, self.valkey = channel, device, valkey
        self._end = threading.Event()
        self._remove = False
        self._due = 0.0
        self._connected = False
        self._said = ""

    def end(self, *, remove: bool) -> None:
        """`remove`: let Home Assistant forget the device, as nobody wants it there any more."""
        self._remove = remove
        self._end.set()

    def run(self) -> None:
        pause = FIRST_PAUSE_S
        while not self._end.is_set():
            try:
                self._talk()
            except (AddressError, OSError, ValueError) as error:
                self._say(f"Home Assistant does not see this machine: {error or type(error).__name__}")
            pause = FIRST_PAUSE_S if self._connected else min(pause * 2, MOST_PAUSE_S)
            self._connected = False
            self._end.wait(pause)
        connections.close_all()

    def _talk(self) -> None:
        """One connection, from its beginning to its end."""
        client = self.channel.client(f"{self.device.id}-{socket.gethostname()}"[:60])
        client.will_set(self.device.availability_topic, "offline", qos=1, retain=True)
        client.on_connect, client.on_message = self._on_connect, self._on_message
        client.connect(self.channel.host, self.channel.port, keepalive=20)
        try:
            while not self._end.is_set() and client.loop(timeout=0.2) == MQTTErrorCode.MQTT_ERR_SUCCESS:
                if self._connected and time.monotonic() >= self._due:
                    self._publish_state(client)
            if self._end.is_set() and client.is_connected():
                self._say_goodbye(client)
        finally:
            client.disconnect()
            client.loop(timeout=0.1)

    def _on_connect(self, client: Client, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._say(f"Home Assistant does not see this machine: {self.channel.host}: {reason}")
            return
        self._connected, self._said = True, ""
        client.subscribe([(self.device.birth_topic, 1), (self.device.acknowledge_topic, 1)])
        self._announce(client)

    def _announce(self, client: Client) -> None:
        client.publish(self.device.config_topic, json.dumps(self.device.config()), qos=1, retain=True)
        client.publish(self.device.availability_topic, "online", qos=1, retain=True)
        self._due = 0.0

    def _on_message(self, client: Client, data: Any, message: MQTTMessage) -> None:
        said = message.payload.decode(errors="replace")
        if message.topic == self.device.birth_topic and said == "online":
            self._announce(client)
        # A button is pressed now; a retained press is somebody's mistake that would come with every connection.
        elif message.topic == self.device.acknowledge_topic and said == PRESS and not message.retain:
            self._acknowledge()

    def _acknowledge(self) -> None:
        try:
            for alert in selectors.open_alerts().filter(acknowledged_at=None):
                try:
                    services.acknowledge(
                        alert.pk,
                        who="Home Assistant",
                        note="by its button",
                        until=None,
                        now=timezone.now(),
                    )
                except services.NotOpenError:
                    continue
        except DatabaseError as error:
            log.warning("the button of Home Assistant acknowledged nothing: %s", error)
        finally:
            close_old_connections()
        self._due = 0.0

    def _publish_state(self, client: Client) -> None:
        """Nothing is said when nothing is known: then Home Assistant lets the values expire."""
        self._due = time.monotonic() + STATE_EVERY_S
        try:
            raw: Any = self.valkey.get(selectors.LAST_KEY)
            names = [str(alert) for alert in selectors.open_alerts()]
        except (redis.RedisError, DatabaseError) as error:
            log.warning("no state for Home Assistant: %s", error)
            return
        finally:
            close_old_connections()
        if raw:
            client.publish(self.device.state_topic, json.dumps(state_of(json.loads(raw), names)), qos=1)

    def _say_goodbye(self, client: Client) -> None:
        last = client.publish(self.device.availability_topic, "offline", qos=1, retain=True)
        if self._remove:
            client.publish(self.device.config_topic, b"", qos=1, retain=True)
            last = client.publish(self.device.availability_topic, b"", qos=1, retain=True)
        end = time.monotonic() + 2
        # Of a message that found no broker any more the library says so by an exception, where it is asked for it.
        while (
            last.rc == MQTTErrorCode.MQTT_ERR_SUCCESS and not last.is_published() and time.monotonic() < end
        ):
            if client.loop(timeout=0.1) != MQTTErrorCode.MQTT_ERR_SUCCESS:
                return

    def _say(self, text: str) -> None:
        """To the log, once each."""
        text = self.channel.without_secrets(text)
        if text != self._said:
            log.warning("%s", text)
        self._said = text


class Presences(threading.Thread):
    """Starts and ends a Presence for each channel that asks for it, as the channels change."""

    def __init__(self) -> None:
        super().__init__(name="presences", daemon=True)
        self.valkey = redis.from_url(settings.VALKEY_URL, socket_timeout=2, socket_connect_timeout=2)
        self._lock = self.valkey.lock(LOCK_KEY, timeout=LOCK_S, thread_local=False)
        self._end = threading.Event()
        self._running: dict[tuple[int, str], Presence] = {}

    def end(self, timeout_s: float = 5.0) -> None:
        self._end.set()
        if self.is_alive():
            self.join(timeout_s)

    def run(self) -> None:
        while not self._end.is_set():
            try:
                self.look(mine=self._is_mine())
            except (DatabaseError, redis.RedisError) as error:
                log.warning("channels can't be read: %s", error)
            except Exception:
                log.exception("the presence in Home Assistant could not be looked after; it is tried again")
            finally:
                close_old_connections()
            self._end.wait(LOOK_EVERY_S)
        self._leave(list(self._running), remove=False)
        try:
            if self._lock.owned():
                self._lock.release()
        except redis.RedisError as error:
            log.warning("the lock of the presence ends by itself: %s", error)
        connections.close_all()

    def look(self, *, mine: bool) -> None:
        """Once: what is wanted runs, and nothing else."""
        wanted: dict[tuple[int, str], Presence] = {}
        if mine:
            for config in ChannelConfig.objects.filter(kind=MqttChannel.name, enabled=True):
                key = (config.pk, f"{config.settings} {config.sealed}")
                if config.settings.get("discovery"):
                    found = self._running.get(key) or self._make(config)
                    if found is not None:
                        wanted[key] = found
        self._leave([key for key in self._running if key not in wanted], remove=mine)
        for key, presence in wanted.items():
            if key not in self._running:
                presence.start()
        self._running = wanted

    def _make(self, config: ChannelConfig) -> Presence | None:
        try:
            channel = channel_of(config)
        except ChannelError as error:
            log.warning("%s: %s", config.name, error)
            return None
        assert isinstance(channel, MqttChannel)
        return Presence(channel, Device(settings.HOST_NAME, channel.discovery_prefix), self.valkey)

    def _leave(self, keys: list[tuple[int, str]], *, remove: bool) -> None:
        """Before another one begins: the old one's goodbye must not follow the new one's welcome."""
        ending = [self._running.pop(key) for key in keys]
        for presence in ending:
            presence.end(remove=remove)
        for presence in ending:
            presence.join(5)

    def _is_mine(self) -> bool:
        if self._lock.owned():
            return bool(self._lock.reacquire())
        return bool(self._lock.acquire(blocking=False))
