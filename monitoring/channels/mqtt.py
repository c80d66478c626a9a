"""A message on an MQTT broker, QoS 1: delivered when the broker has acknowledged it (PUBACK)."""

import json
import socket
import ssl
import threading
from dataclasses import dataclass
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from monitoring.channels.base import Channel, ChannelError, Notice, refused, secret, tls_context
from safeguards.addresses import AddressError, connect

CONNECT_S, ANSWER_S = 8.0, 10.0
VERSIONS = (("5", "5"), ("3.1.1", "3.1.1 (says nothing of topics that may not be written)"))
# Reasons that a broker gives (MQTT 5, 3.2.2.2): wrong version, malformed id, credentials, not authorized, banned, ...
PERMANENT = frozenset((0x81, 0x82, 0x84, 0x85, 0x86, 0x87, 0x8A, 0x8C, 0x90, 0x95, 0x99))


class CheckedClient(Client):
    """Connects to an address that was checked; the certificate is checked for the name."""

    def _create_socket_connection(self) -> socket.socket:
        return connect(self._host, self._port, self._connect_timeout)

    def _ssl_wrap_socket(self, tcp_sock: socket.socket) -> ssl.SSLSocket:
        """As the library's own, but it closes what fails."""
        assert self._ssl_context is not None
        return self._ssl_context.wrap_socket(tcp_sock, server_hostname=self._host)


@dataclass(kw_only=True, eq=False)
class MqttChannel(Channel):
    name = "mqtt"

    host: str
    port: int
    tls: bool = False
    ca: str = ""
    user: str = ""
    password: str = secret()
    version: str = "5"
    topic: str
    discovery: bool = False  # monitoring.presence
    discovery_prefix: str = "homeassistant"

    def send(self, notice: Notice) -> None:
        client, talk = self.client(), _Talk()
        client.on_connect, client.on_publish, client.on_disconnect = (
            talk.connected,
            talk.published,
            talk.disconnected,
        )
        try:
            client.connect(self.host, self.port, keepalive=30)
        except AddressError as error:
            raise refused(error) from error
        except OSError as error:
            raise ChannelError(f"{self.host}:{self.port}: {error or type(error).__name__}") from error
        client.loop_start()
        try:
            talk.wait(f"{self.host}:{self.port} took no connection")
            sent = client.publish(self.topic, json.dumps(notice.payload()), qos=1)
            if sent.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
                raise ChannelError(f"{self.host}:{self.port}: {sent.rc.name}")
            talk.wait(f"{self.host}:{self.port} did not acknowledge the message")
        finally:
            client.disconnect()
            client.loop_stop()

    def client(self, client_id: str = "") -> CheckedClient:
        """Not connected yet. A client id of '' is made up anew each time."""
        version = MQTTProtocolVersion.MQTTv5 if self.version == "5" else MQTTProtocolVersion.MQTTv311
        client = CheckedClient(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=version, reconnect_on_failure=False
        )
        client.connect_timeout = CONNECT_S
        if self.user:
            client.username_pw_set(self.user, self.password)
        if self.tls:
            client.tls_set_context(tls_context(self.ca))
        return client

    @property
    def target(self) -> str:
        return f"{self.topic} at {self.host}:{self.port}"


class _Talk:
    """What the broker answers, in order: to the connection, then to the message."""

    def __init__(self) -> None:
        self._answers: list[ReasonCode | None] = []
        self._more = threading.Condition()

    def connected(
        self,
        client: Client,
        data: Any,
        flags: ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self._hear(reason)

    def published(
        self, client: Client, data: Any, mid: int, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self._hear(reason)

    def disconnected(
        self,
        client: Client,
        data: Any,
        flags: DisconnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self._hear(reason if reason.value >= 0x80 else None)

    def _hear(self, reason: ReasonCode | None) -> None:
        with self._more:
            self._answers.append(reason)
            self._more.notify()

    def wait(self, otherwise: str) -> None:
        """For the next answer. Raises ChannelError with the broker's reason, or with `otherwise` when none comes."""
        with self._more:
            if not self._more.wait_for(lambda: self._answers, ANSWER_S):
                raise ChannelError(f"{otherwise} within {ANSWER_S:g} s")
            reason = self._answers.pop(0)
        if reason is None:
            raise ChannelError(f"{otherwise}: the connection broke")
        if reason.is_failure:
            raise ChannelError(f"{otherwise}: {reason}", permanent=reason.value in PERMANENT)
