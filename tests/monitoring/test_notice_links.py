"""Links of notices to the page of their alert, on every kind of channel, and a console that answers there."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from email import message_from_bytes
from email.policy import default as email_policy
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings

from monitoring.alerts import channel_services
from monitoring.channels import Notice
from monitoring.channels.apprise_url import AppriseChannel
from monitoring.channels.home_assistant import HomeAssistantChannel
from monitoring.channels.mqtt import MqttChannel
from monitoring.models import Alert
from tests.monitoring.alerting import Bench, at, make_rule
from tests.monitoring.receivers import (
    Mosquitto,
    configure,
    http_receiver,
    mail_receiver,
    make_certificate,
    subscriber,
)
from tests.monitoring.test_channels import SECRET, mail_to, needs_mosquitto, notice, received
from tests.product import wait_for

PUBLIC = "https://ai.example.com"
LINK = f"{PUBLIC}/alerts/7/"
SAID = f"Heat on box: 95 %, fires at 90 %\n{LINK}"


def linked() -> Notice:
    return replace(notice(), link=LINK)


@pytest.mark.django_db
@pytest.mark.usefixtures("valkey_url")
def test_a_notice_links_to_its_alert_a_group_to_the_list_and_a_test_to_the_channels(settings: Any) -> None:
    settings.PUBLIC_URL, settings.ALERT_GROUP_WAIT_S = PUBLIC, 30
    for name in "abc":
        make_rule(name=name, series=f"{name}_percent")
    with http_receiver() as receiver:
        config = configure("webhook", {}, {"url": receiver.url, "signing_secret": SECRET})
        bench = Bench()
        bench.heat(None, a_percent=95.0)
        bench.work(30)
        bench.heat(None, b_percent=95.0, c_percent=95.0)
        bench.work(30)
        channel_services.ask_test(config, now=at(99))
        channel_services.send_test(config, lambda: at(99))
        first = Alert.objects.order_by("id")[0]
        assert [each.json["link"] for each in receiver.got] == [
            *(f"{PUBLIC}/alerts/{first.pk}/", f"{PUBLIC}/alerts/", f"{PUBLIC}/alerts/channels/"),
        ]
        settings.PUBLIC_URL = ""
        bench.heat(None, a_percent=10.0)
        bench.work()
        assert receiver.got[-1].json["link"] == ""


def test_a_mail_carries_it(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    with mail_receiver("starttls", certificate) as receiver:
        mail_to(receiver.port, certificate).send(linked())
        mail_to(receiver.port, certificate).send(notice())
    first, second = (message_from_bytes(received(each), policy=email_policy) for each in receiver.got)
    assert first.get_content().replace("\r\n", "\n").startswith(f"{SAID}\n\nseverity: warning\n")
    assert "http" not in second.get_content()


@pytest.mark.parametrize(
    ("service", "message", "opened"),
    [
        ("notify.mobile_app_phone", SAID.partition("\n")[0], {"url": LINK, "clickAction": LINK}),
        ("persistent_notification.create", SAID, {}),
        ("notify.send_message", SAID, {}),
    ],
)
def test_home_assistant_opens_or_shows_it(service: str, message: str, opened: dict[str, str]) -> None:
    with http_receiver() as receiver:
        HomeAssistantChannel(url=receiver.url, token="t", service=service, entity="notify.k").send(linked())
        HomeAssistantChannel(url=receiver.url, token="t", service=service, entity="notify.k").send(notice())
    with_link, without = (each.json for each in receiver.got)
    assert with_link["message"] == message
    assert {name: with_link.get("data", {}).get(name) for name in opened} == opened
    assert "http" not in json.dumps(without)


@needs_mosquitto
def test_mqtt_and_apprise_carry_it(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker, subscriber(broker, "ai/#") as got:
        MqttChannel(host="127.0.0.1", port=broker.port, topic="ai/alerts").send(linked())
        wait_for(lambda: got, "the message arrives", 10)
    assert json.loads(got[0].payload)["link"] == LINK
    with http_receiver() as receiver:
        AppriseChannel(url=f"json://127.0.0.1:{receiver.port}/").send(linked())
    assert receiver.got[0].json["message"] == SAID


ANSWERS = """
import django
django.setup()
from django.test import Client
client = Client(enforce_csrf_checks=True)
secure = {"host": "ai.example.com", "x-forwarded-proto": "https"}
client.get("/login/", headers=secure)
token = client.cookies["aicleaner_csrf"].value if client.cookies else ""
sent = {"username": "nobody", "password": "x", "csrfmiddlewaretoken": token}
for origin in ("https://ai.example.com", "https://evil.example.com"):
    print(client.post("/login/", sent, headers={**secure, "origin": origin}).status_code)
print(client.get("/login/", headers={"host": "other.example.com"}).status_code)
"""


@pytest.mark.parametrize(("public", "statuses"), [(PUBLIC, "200 403 400"), ("", "400 400 400")])
def test_the_console_answers_under_its_public_address(tmp_path: Path, public: str, statuses: str) -> None:
    environment = {**os.environ, "AICLEANER_DATA_DIR": str(tmp_path), "AICLEANER_PUBLIC_URL": public}
    environment["AICLEANER_HTTPS"] = "0"  # the test client speaks HTTP, as a proxy does
    run = {"cwd": django_settings.BASE_DIR, "env": environment, "capture_output": True, "text": True}
    subprocess.run([sys.executable, "manage.py", "migrate"], check=True, **run)  # type: ignore[call-overload]
    found = subprocess.run([sys.executable, "-c", ANSWERS], check=True, **run)  # type: ignore[call-overload]
    assert found.stdout.split() == statuses.split()
