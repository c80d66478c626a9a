"""Each kind of channel against a receiver that speaks its protocol."""

import base64
import json
import logging
import re
import socket
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.policy import default as email_policy
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiosmtpd.smtp import Envelope
from django.conf import settings

from monitoring.alerts.channel_services import attempt
from monitoring.channels import (
    KINDS,
    ChannelError,
    Notice,
    apprise_url,
    class_of,
    http,
    mail,
    make_channel,
    mqtt,
)
from monitoring.channels.apprise_url import AppriseChannel, AppriseUrlError, service_of
from monitoring.channels.base import Channel
from monitoring.channels.home_assistant import HomeAssistantChannel
from monitoring.channels.http import seconds_of
from monitoring.channels.mail import MailChannel
from monitoring.channels.mqtt import MqttChannel
from monitoring.channels.webhook import WebhookChannel, key_of, new_secret
from tests.monitoring.receivers import (
    MOSQUITTO,
    NO_MOSQUITTO,
    Certificate,
    HttpReceiver,
    Mosquitto,
    dumb_server,
    http_receiver,
    mail_receiver,
    make_certificate,
    subscriber,
)
from tests.product import wait_for

NOW = datetime(2027, 1, 15, 8, 0, tzinfo=UTC)
SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
needs_mosquitto = pytest.mark.skipif(MOSQUITTO is None, reason=NO_MOSQUITTO)


def notice(event: str = "fired", attempt_n: int = 1, severity: str = "warning") -> Notice:
    return Notice(
        key=f"7:{event}:1:webhook-1",
        event=event,
        alert_id=7,
        severity=severity,
        labels={"host": "box", "rule": "Heat"},
        text="Heat on box: 95 %, fires at 90 %",
        at=NOW,
        attempt=attempt_n,
    )


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with http_receiver() as found:
        yield found


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


def error_of(channel: Channel, what: Notice | None = None) -> ChannelError:
    """What the worker makes of its failure."""
    found = attempt(lambda: channel, what or notice())
    assert found is not None
    return found


# --- webhook


def test_a_webhook_gets_json_that_its_secret_proves(receiver: HttpReceiver) -> None:
    channel = WebhookChannel(
        url=f"{receiver.url}/hook?a=1", signing_secret=SECRET, authorization="Bearer abc"
    )
    channel.send(notice())
    channel.send(notice(attempt_n=2))
    first, second = receiver.got
    assert first.path == "/hook?a=1"
    assert first.json == {
        "key": "7:fired:1:webhook-1",
        "event": "fired",
        "alert_id": 7,
        "severity": "warning",
        "labels": {"host": "box", "rule": "Heat"},
        "group": [],
        "text": "Heat on box: 95 %, fires at 90 %",
        "at": "2027-01-15T08:00:00+00:00",
        "link": "",
    }
    assert (first.body, first.headers["idempotency-key"]) == (second.body, second.headers["idempotency-key"])
    assert first.headers["authorization"] == "Bearer abc"


def test_the_check_that_the_documentation_gives_tells_right_from_wrong(receiver: HttpReceiver) -> None:
    text = (settings.BASE_DIR / "docs" / "alerts.md").read_text()
    code: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0], code)
    is_genuine = code["is_genuine"]
    WebhookChannel(url=receiver.url, signing_secret=SECRET).send(notice())
    headers, body = receiver.got[0].headers, receiver.got[0].body
    assert is_genuine(headers, body, SECRET)
    assert is_genuine({**headers, "webhook-signature": f"v1,x {headers['webhook-signature']}"}, body, SECRET)
    assert not is_genuine(headers, body + b" ", SECRET)
    assert not is_genuine(headers, body, new_secret())
    for name, value in (("webhook-id", "8:fired:1:webhook-1"), ("webhook-timestamp", "1700000000")):
        assert not is_genuine({**headers, name: value}, body, SECRET)


def test_new_secrets_differ_and_weak_ones_are_no_keys() -> None:
    assert len(key_of(new_secret())) == 32
    assert new_secret() != new_secret()
    for weak in ("", "whsec_", "whsec_!!", "whsec_QUJD", base64.b64encode(b"x" * 32).decode()):
        with pytest.raises(ValueError, match="it is no"):
            key_of(weak)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422])
def test_a_refusal_is_for_good(receiver: HttpReceiver, status: int) -> None:
    receiver.status = status
    assert error_of(WebhookChannel(url=receiver.url, signing_secret=SECRET)).permanent


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503])
def test_other_errors_may_pass_and_a_pause_is_honoured(receiver: HttpReceiver, status: int) -> None:
    receiver.status, receiver.answer_headers = status, {"Retry-After": "17"}
    error = error_of(WebhookChannel(url=receiver.url, signing_secret=SECRET))
    assert (error.permanent, error.retry_after_s) == (False, 17)
    assert str(error).startswith(str(status))


def test_a_pause_is_seconds_or_a_date() -> None:
    assert seconds_of("120", NOW) == 120
    assert seconds_of(format_datetime(NOW + timedelta(minutes=5), usegmt=True), NOW) == 300
    assert seconds_of(format_datetime(NOW - timedelta(minutes=5), usegmt=True), NOW) == 0
    for nonsense in ("", "soon", "-5", "1.5", "²"):
        assert seconds_of(nonsense, NOW) == 0


def test_a_redirect_is_not_followed(receiver: HttpReceiver) -> None:
    receiver.status, receiver.answer_headers = 302, {"Location": f"{receiver.url}/elsewhere"}
    error = error_of(WebhookChannel(url=receiver.url, signing_secret=SECRET))
    assert error.permanent
    assert "redirects are not followed" in str(error)
    assert len(receiver.got) == 1


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "[fe80::1]", "100.100.100.200", "[::ffff:169.254.169.254]", "2852039166", "0.0.0.0"],
)
def test_nothing_is_sent_to_addresses_that_are_not_allowed(address: str) -> None:
    error = error_of(WebhookChannel(url=f"http://{address}/latest", signing_secret=SECRET))
    assert error.permanent
    assert "Nothing is sent to" in str(error)


def test_the_address_that_was_checked_is_the_one_connected_to(
    receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that answers another address the second time gets nobody there."""
    real, asked = socket.getaddrinfo, list[str]()

    def rebinding(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host != "rebinding.test":
            return real(host, *args, **kwargs)
        asked.append(host)
        return real("127.0.0.1" if len(asked) == 1 else "169.254.169.254", *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    WebhookChannel(url=f"http://rebinding.test:{receiver.port}/", signing_secret=SECRET).send(notice())
    assert (len(receiver.got), len(asked)) == (1, 1)
    assert receiver.got[0].headers["host"].startswith("rebinding.test")
    assert error_of(
        WebhookChannel(url=f"http://rebinding.test:{receiver.port}/", signing_secret=SECRET)
    ).permanent
    assert len(receiver.got) == 1


def test_a_name_that_nobody_knows_may_be_known_later() -> None:
    error = error_of(WebhookChannel(url="http://no-such-host.invalid/", signing_secret=SECRET))
    assert not error.permanent
    assert "can't be found" in str(error)


@pytest.mark.parametrize("drip", [b"", b"H"])
def test_a_receiver_that_hangs_or_drips_is_left(drip: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "TIMEOUT", aiohttp.ClientTimeout(total=0.4))
    with dumb_server(first=b"HTTP/1.1 200 OK\r\nX: " if drip else b"", drip=drip) as port:
        error = error_of(WebhookChannel(url=f"http://127.0.0.1:{port}/", signing_secret=SECRET))
    assert not error.permanent
    assert "gave no answer within 0.4 s" in str(error)


def test_of_a_great_answer_a_bounded_part_is_read(receiver: HttpReceiver) -> None:
    receiver.status, receiver.answer = 500, lambda got: b"x" * 8_000_000
    assert len(str(error_of(WebhookChannel(url=receiver.url, signing_secret=SECRET)))) < 300


def test_what_a_receiver_quotes_of_our_secrets_is_blotted_out(
    receiver: HttpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    receiver.status = 500
    receiver.answer = lambda got: f"{got.path} {got.headers['authorization']} {SECRET}".encode()
    url = f"{receiver.url}/services/T0KEN-in-path?key=query-secret"
    error = error_of(WebhookChannel(url=url, signing_secret=SECRET, authorization="Bearer header-secret"))
    unknown = error_of(WebhookChannel(url=url, signing_secret="no-whsec-but-secret", authorization="x"))
    said = f"{error} {unknown} {caplog.text}"
    for secret in ("T0KEN-in-path", "query-secret", "header-secret", SECRET, "no-whsec-but-secret"):
        assert secret not in said
    assert str(error).startswith("500")


def test_no_channel_shows_its_secrets() -> None:
    for kind in map(class_of, KINDS):
        assert kind.secret_names()
        assert all(
            not each.repr for each in kind.__dataclass_fields__.values() if each.metadata.get("secret")
        )
    channel = WebhookChannel(url="https://hooks.test/services/abcdef", signing_secret=SECRET)
    assert (channel.target, "abcdef" in repr(channel)) == ("https://hooks.test", False)


def test_settings_of_another_version_are_said() -> None:
    with pytest.raises(ChannelError, match="save it anew"):
        make_channel("webhook", {"address": "x"})
    with pytest.raises(ChannelError, match="save it anew"):
        make_channel("pigeon", {})


# --- Home Assistant


@pytest.mark.parametrize(
    ("service", "entity", "path", "more"),
    [
        (
            "notify.mobile_app_phone",
            "",
            "notify/mobile_app_phone",
            {"data": {"tag": "aicleaner-7", "key": "7:fired:1:webhook-1", "severity": "warning"}},
        ),
        (
            "persistent_notification.create",
            "",
            "persistent_notification/create",
            {"notification_id": "aicleaner-7"},
        ),
        ("notify.send_message", "notify.kitchen", "notify/send_message", {"entity_id": "notify.kitchen"}),
    ],
)
def test_home_assistant_is_asked_to_notify(
    receiver: HttpReceiver, service: str, entity: str, path: str, more: dict[str, Any]
) -> None:
    HomeAssistantChannel(url=receiver.url, token="long-lived", service=service, entity=entity).send(notice())
    assert receiver.got[0].path == f"/api/services/{path}"
    assert receiver.got[0].headers["authorization"] == "Bearer long-lived"
    said = {"title": "[warning] fired: Heat", "message": "Heat on box: 95 %, fires at 90 %"}
    assert receiver.got[0].json == {**said, **more}


def test_a_wrong_token_is_a_permanent_error(receiver: HttpReceiver) -> None:
    receiver.status, receiver.answer = 401, lambda got: b"401: Unauthorized"
    error = error_of(HomeAssistantChannel(url=receiver.url, token="long-lived"))
    assert error.permanent
    assert "401" in str(error)


# --- e-mail


def received(envelope: Envelope) -> bytes:
    assert isinstance(envelope.content, bytes)
    return envelope.content


def mail_to(port: int, certificate: Certificate, **values: Any) -> MailChannel:
    given = {
        "host": "localhost",
        "port": port,
        "ca": certificate.ca,
        "sender": "ai@example.com",
        "recipients": ["anna@example.com", "ben@example.com"],
        **values,
    }
    return MailChannel(**given)


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")  # all of it is TLS there
@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_mail_goes_encrypted_and_logged_in(security: str, certificate: Certificate) -> None:
    with mail_receiver(security, certificate, login=True) as receiver:
        login = {"user": "ai", "password": "correct-password", "security": security}
        for n in (1, 2):
            mail_to(receiver.port, certificate, **login).send(notice(attempt_n=n))
        wrong = error_of(mail_to(receiver.port, certificate, **{**login, "password": "wrong-password"}))
    assert wrong.permanent
    assert "535" in str(wrong)
    assert "wrong-password" not in str(wrong)
    first, second = (message_from_bytes(received(each), policy=email_policy) for each in receiver.got)
    assert receiver.got[0].rcpt_tos == ["anna@example.com", "ben@example.com"]
    assert first["Subject"] == "[warning] fired: Heat: Heat on box: 95 %, fires at 90 %"
    assert (
        first["Message-ID"]
        == second["Message-ID"]
        == "<7.fired.1.webhook-1.20270115080000.aicleaner@example.com>"
    )
    assert first["X-AICleaner-Key"] == "7:fired:1:webhook-1"
    assert (
        first.get_content()
        .replace("\r", "")
        .startswith("Heat on box: 95 %, fires at 90 %\n\nseverity: warning\nhost: box\n")
    )


def test_a_mail_is_not_sent_to_whom_the_certificate_does_not_prove(certificate: Certificate) -> None:
    with mail_receiver("starttls", certificate) as receiver:
        error = error_of(mail_to(receiver.port, certificate, ca=""))
        assert not receiver.got
    assert "CERTIFICATE_VERIFY_FAILED" in str(error)


def test_a_server_without_starttls_gets_no_mail(certificate: Certificate) -> None:
    with mail_receiver("none", certificate) as receiver:
        assert "STARTTLS" in str(error_of(mail_to(receiver.port, certificate)))
        mail_to(receiver.port, certificate, security="none").send(notice())
        assert len(receiver.got) == 1


@pytest.mark.parametrize(("answer", "permanent"), [("550 no such user", True), ("450 try later", False)])
def test_a_refused_recipient_is_said(certificate: Certificate, answer: str, permanent: bool) -> None:
    with mail_receiver("starttls", certificate) as receiver:
        receiver.refuse = {"ben@example.com": answer}
        some = error_of(mail_to(receiver.port, certificate))
        receiver.refuse["anna@example.com"] = answer
        everybody = error_of(mail_to(receiver.port, certificate))
    assert len(receiver.got) == 1
    for error in (some, everybody):
        assert error.permanent is permanent
        assert f"ben@example.com: {answer}" in str(error)
    assert "anna" not in str(some)


def test_a_mail_server_that_hangs_or_drips_is_left(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mail, "STEP_S", 0.4)
    monkeypatch.setattr(mail, "TOTAL_S", 0.8)
    with dumb_server() as silent, dumb_server(first=b"220", drip=b"-x\r\n220") as dripping:
        for port in (silent, dripping):
            assert not error_of(mail_to(port, certificate)).permanent
    assert error_of(mail_to(25, certificate, host="169.254.169.254")).permanent


# --- MQTT


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path) as found:
        yield found


@needs_mosquitto
@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_message_is_delivered_when_the_broker_has_it(broker: Mosquitto, version: str) -> None:
    channel = MqttChannel(host="localhost", port=broker.port, topic="ai/alerts", version=version)
    with subscriber(broker, "ai/#") as got:
        channel.send(notice())
        wait_for(lambda: got, "the message arrives", 10)
    assert (got[0].topic, got[0].qos, got[0].retain) == ("ai/alerts", 1, False)
    assert json.loads(got[0].payload) == notice().payload()


@needs_mosquitto
def test_a_broker_that_restarts_between_sends_costs_nothing(broker: Mosquitto) -> None:
    channel = MqttChannel(host="127.0.0.1", port=broker.port, topic="ai/alerts")
    channel.send(notice())
    broker.stop()
    error = error_of(channel)
    assert not error.permanent
    assert "refused" in str(error)
    broker.start()
    with subscriber(broker, "ai/#") as got:
        channel.send(notice(attempt_n=2))
        wait_for(lambda: got, "the message arrives", 10)


@needs_mosquitto
def test_password_tls_and_rights_of_a_broker(tmp_path: Path, certificate: Certificate) -> None:
    (tmp_path / "passwords").write_text("ai:correct-password\n")
    tool = Path(str(MOSQUITTO)).parent.parent / "bin" / "mosquitto_passwd"
    subprocess.run([tool, "-U", str(tmp_path / "passwords")], check=True)
    (tmp_path / "rights").write_text("user ai\ntopic write ai/#\n")
    chain = certificate.chain
    lines = (
        *(
            "allow_anonymous false",
            f"password_file {tmp_path / 'passwords'}",
            f"acl_file {tmp_path / 'rights'}",
        ),
        *(f"certfile {chain}", f"keyfile {chain}"),
    )
    with Mosquitto(tmp_path, lines=lines) as broker:
        given: dict[str, Any] = {"host": "localhost", "port": broker.port, "tls": True, "ca": certificate.ca}
        given |= {"user": "ai", "password": "correct-password", "topic": "ai/alerts"}
        MqttChannel(**given).send(notice())
        wrong = error_of(MqttChannel(**{**given, "password": "wrong-password"}))
        forbidden = error_of(MqttChannel(**{**given, "topic": "other"}))
        unproved = error_of(MqttChannel(**{**given, "ca": ""}))
    assert (wrong.permanent, forbidden.permanent, unproved.permanent) == (True, True, False)
    assert re.search("[Nn]ot authorized|Bad user", str(wrong))
    assert "wrong-password" not in str(wrong)
    assert "Not authorized" in str(forbidden)
    assert "CERTIFICATE_VERIFY_FAILED" in str(unproved)


def test_a_broker_that_hangs_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "ANSWER_S", 0.3)
    with dumb_server() as port:
        error = error_of(MqttChannel(host="127.0.0.1", port=port, topic="x"))
    assert not error.permanent
    assert "took no connection within 0.3 s" in str(error)
    assert error_of(MqttChannel(host="169.254.169.254", port=1883, topic="x")).permanent


# --- Apprise


def test_apprise_delivers_behind_its_url(receiver: HttpReceiver) -> None:
    channel = AppriseChannel(url=f"json://127.0.0.1:{receiver.port}/hook-path")
    channel.send(notice())
    channel.send(notice("resolved"))
    assert [each.path for each in receiver.got] == ["/hook-path", "/hook-path"]
    assert receiver.got[0].json["title"] == "[warning] fired: Heat"
    assert receiver.got[0].json["message"] == "Heat on box: 95 %, fires at 90 %"
    assert [each.json["type"] for each in receiver.got] == ["warning", "success"]
    assert channel.target == "JSON"


def test_why_apprise_failed_is_said_without_its_url(
    receiver: HttpReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.status = 503
    error = error_of(AppriseChannel(url=f"json://me:top-secret@127.0.0.1:{receiver.port}/token-in-path"))
    assert not error.permanent
    assert "503" in str(error)
    assert "top-secret" not in f"{error} {caplog.text}"
    assert "token-in-path" not in f"{error} {caplog.text}"


def test_apprise_follows_no_redirect(receiver: HttpReceiver) -> None:
    receiver.status, receiver.answer_headers = 302, {"Location": f"{receiver.url}/elsewhere"}
    error_of(AppriseChannel(url=f"json://127.0.0.1:{receiver.port}/"))
    assert [each.path for each in receiver.got] == ["/"]


def test_an_apprise_receiver_that_hangs_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apprise_url, "TOTAL_S", 0.4)
    with dumb_server() as port:
        error = error_of(AppriseChannel(url=f"json://127.0.0.1:{port}/"))
    assert not error.permanent


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("", "does not know"),
        ("nonsense", "does not know"),
        ("https://example.com/secret-token", "does not know"),
        ("json://169.254.169.254/", "link-local"),
        ("json://127.0.0.1/?redirect=yes", "redirect="),
        ("json://127.0.0.1/?retry=3", "retry="),
    ],
)
def test_a_wrong_apprise_url_is_said(url: str, word: str) -> None:
    with pytest.raises(AppriseUrlError, match=word) as caught:
        service_of(url)
    assert "secret-token" not in str(caught.value)
    assert error_of(AppriseChannel(url=url)).permanent
