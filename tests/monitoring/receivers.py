"""Receivers of notices that speak the real protocols: HTTP, SMTP, and a real Mosquitto."""

import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from paho.mqtt.enums import CallbackAPIVersion

from monitoring.models import ChannelConfig
from safeguards.sealing import channel_secrets
from tests.product import free_ports, wait_for

MOSQUITTO = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
NO_MOSQUITTO = "no Mosquitto on this machine: apt install mosquitto, then again"


def configure(kind: str, settings: dict[str, Any], secrets: dict[str, str], **values: Any) -> ChannelConfig:
    return ChannelConfig.objects.create(
        kind=kind, settings=settings, sealed=channel_secrets.seal(secrets), **{"name": f"my {kind}", **values}
    )


@dataclass
class Got:
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class HttpReceiver:
    """Answers with `status`, `answer_headers` and `answer`, which may use what came."""

    status: int = 200
    answer: Callable[[Got], bytes] = lambda got: b""
    answer_headers: dict[str, str] = field(default_factory=dict)
    got: list[Got] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def http_receiver() -> Iterator[HttpReceiver]:
    receiver = HttpReceiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            got = Got(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            receiver.got.append(got)
            answer = receiver.answer(got)
            self.send_response(receiver.status)
            for name, value in receiver.answer_headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            with contextlib.suppress(OSError):  # the other side reads a bounded part
                self.wfile.write(answer)

        do_GET = do_POST  # noqa: N815 - a followed redirect would come as one

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def dumb_server(first: bytes = b"", drip: bytes = b"") -> Iterator[int]:
    """Accepts, says `first`, then `drip` twenty times a second without end, and never what is waited for; its port."""
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.05)
    end = threading.Event()
    sockets: list[socket.socket] = []

    def serve() -> None:
        while not end.wait(0.05):
            with contextlib.suppress(TimeoutError):
                sockets.append(server.accept()[0])
                sockets[-1].sendall(first)
            for each in sockets if drip else []:
                with contextlib.suppress(OSError):
                    each.sendall(drip)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        end.set()
        thread.join()
        for each in (server, *sockets):
            each.close()


@dataclass(frozen=True)
class Certificate:
    """Of localhost and 127.0.0.1, signed by an authority of its own."""

    ca: str
    chain: Path  # certificate and key

    def server_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.chain)
        return context


def make_certificate(folder: Path) -> Certificate:
    now = datetime.now(UTC)

    def signed(
        name: str,
        key: ec.EllipticCurvePrivateKey,
        issuer: str,
        by: ec.EllipticCurvePrivateKey,
        *,
        is_ca: bool,
    ) -> x509.Certificate:
        usage = dict.fromkeys(
            (
                *("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
                *("encipher_only", "decipher_only"),
            ),
            False,
        )
        public = key.public_key()
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(is_ca, None), critical=True)
            .add_extension(
                x509.KeyUsage(digital_signature=True, key_cert_sign=is_ca, crl_sign=is_ca, **usage),
                critical=True,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False
            )
            .add_extension(
                x509.SubjectAlternativeName(
                    [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
                ),
                critical=False,
            )
            .sign(by, hashes.SHA256())
        )

    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = signed("Test authority", ca_key, "Test authority", ca_key, is_ca=True)
    certificate = signed("localhost", key, "Test authority", ca_key, is_ca=False)
    pem = serialization.Encoding.PEM
    chain = folder / "chain.pem"
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    chain.write_bytes(certificate.public_bytes(pem) + private)
    (folder / "ca.pem").write_bytes(ca.public_bytes(pem))
    return Certificate(ca.public_bytes(pem).decode(), chain)


@dataclass
class MailReceiver:
    port: int = 0
    got: list[Envelope] = field(default_factory=list)
    refuse: dict[str, str] = field(default_factory=dict)  # recipient -> answer
    password: bytes = b"correct-password"

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.got.append(envelope)
        return "250 OK"

    def authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: object
    ) -> AuthResult:
        return AuthResult(
            success=isinstance(data, LoginPassword) and data.password == self.password, handled=False
        )


@contextmanager
def mail_receiver(security: str, certificate: Certificate, *, login: bool = False) -> Iterator[MailReceiver]:
    receiver = MailReceiver(port=free_ports(1)[0])
    tls = certificate.server_context()
    options: dict[str, Any] = {}
    if security == "starttls":
        options = {"tls_context": tls, "require_starttls": True}
    if login:
        options |= {"authenticator": receiver.authenticate, "auth_required": True}
        options |= {"auth_require_tls": security == "starttls"}
    controller = Controller(
        receiver,
        hostname="127.0.0.1",
        port=receiver.port,
        ssl_context=tls if security == "tls" else None,
        **options,
    )
    controller.start()
    try:
        yield receiver
    finally:
        controller.stop()


class Mosquitto:
    """A broker on a port of its own; `start` and `stop` at will."""

    def __init__(self, folder: Path, *, lines: tuple[str, ...] = ("allow_anonymous true",)) -> None:
        self.port = free_ports(1)[0]
        self.file = folder / "mosquitto.conf"
        as_user = ["user root"] if os.getuid() == 0 else []
        self.file.write_text("\n".join([*as_user, f"listener {self.port} 127.0.0.1", *lines, ""]))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert MOSQUITTO is not None
        self.process = subprocess.Popen(
            [MOSQUITTO, "-c", str(self.file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for(self._answers, "Mosquitto answers", 20)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
            self.process = None

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def __enter__(self) -> "Mosquitto":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@contextmanager
def subscriber(broker: Mosquitto, topic: str) -> Iterator[list[mqtt.MQTTMessage]]:
    """What arrives on `topic` from now on."""
    got: list[mqtt.MQTTMessage] = []
    ready = threading.Event()
    client = mqtt.Client(CallbackAPIVersion.VERSION2)

    def connected(*_: Any) -> None:
        client.subscribe(topic, qos=1)

    client.on_connect = connected
    client.on_subscribe = lambda *_: ready.set()
    client.on_message = lambda _client, _data, message: got.append(message)
    client.reconnect_delay_set(1, 1)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    try:
        assert ready.wait(10)
        yield got
    finally:
        client.disconnect()
        client.loop_stop()
