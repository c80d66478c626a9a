"""A policy from its form to the steps of an alert, as time goes by, with a real broker and a webhook at its ends."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.monitoring.receivers import (
    MOSQUITTO,
    NO_MOSQUITTO,
    HttpReceiver,
    Mosquitto,
    http_receiver,
    subscriber,
)
from tests.product import BASE_DIR, Product, wait_for

FIRES_MS = 30_000
RULE = """
from django.utils import timezone
from monitoring.alerts.services import save_rule
from monitoring.models import Rule
rule = Rule(name="Pressure", series="memory_used_percent", fire_at=1, clear_at=0.5, window_s=1, for_s=0)
save_rule(rule, "admin", timezone.now(), [])
"""
# What the worker does, sixteen minutes from now.
LATER = """
from datetime import timedelta
from django.utils import timezone
from monitoring.alerts import deliveries, tending
clock = lambda: timezone.now() + timedelta(minutes=16)
tending.tend(clock())
deliveries.deliver_due(clock)
"""
CLEAN = """
from django.utils import timezone
from monitoring.alerts.channel_services import delete_channel
from monitoring.alerts.services import delete_rule
from monitoring.models import ChannelConfig, EscalationPolicy, Rule
for rule in Rule.objects.filter(name="Pressure"):
    delete_rule(rule, "admin", timezone.now())
EscalationPolicy.objects.all().delete()
for config in ChannelConfig.objects.all():
    delete_channel(config, who="admin")
"""


def manage(product: Product, code: str) -> None:
    command = [sys.executable, "manage.py", "shell", "-v", "0", "-c", code]
    subprocess.run(command, cwd=BASE_DIR, env=product.environment, check=True)


@pytest.fixture
def receiver(product: Product) -> Iterator[HttpReceiver]:
    with http_receiver() as found:
        yield found
    manage(product, CLEAN)


def add_webhook(page: Page, product: Product, receiver: HttpReceiver) -> None:
    page.goto(f"{product.web_url}/alerts/channels/new/webhook/")
    page.fill("#id_name", "Boss")
    page.fill("#id_url", f"{receiver.url}/hook")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".channels")).to_contain_text("Boss")


def test_a_wrong_policy_is_said_beside_its_fields_and_what_was_typed_stays(
    page: Page, product: Product, receiver: HttpReceiver
) -> None:
    add_webhook(page, product, receiver)
    page.get_by_role("link", name="Escalation").click()
    page.get_by_role("link", name="New policy").first.click()
    first = page.get_by_role("region", name="Step 1")
    first.get_by_label("Minutes after it fired").fill("10")
    page.get_by_role("button", name="Add a step").click()
    second = page.get_by_role("region", name="Step 2")
    second.get_by_label("Minutes after it fired").fill("5")
    second.get_by_label("Boss").check()
    page.fill("#id_group_wait_s", "9999")
    words = page.locator("section", has=page.get_by_role("heading", name="In words"))
    expect(words).to_contain_text("Not a whole policy yet")
    expect(words).to_contain_text("Step 1, Channels: Choose a channel, or remove the step.")
    words.get_by_role("button", name="Save").click()

    expect(page.get_by_role("alert").first).to_contain_text("Nothing was saved")
    expect(page.locator(".field.bad", has=page.locator("#id_name"))).to_contain_text("required")
    expect(page.locator(".field.bad", has=page.locator("#id_group_wait_s"))).to_contain_text("600")
    expect(first.locator(".field.bad")).to_contain_text("Choose a channel, or remove the step.")
    expect(second.locator(".field.bad")).to_contain_text("The step before comes after 10 min: give no less.")
    expect(first.get_by_label("Minutes after it fired")).to_have_value("10")
    expect(second.get_by_label("Boss")).to_be_checked()

    # Mended, it is said in words and stored.
    page.fill("#id_name", "Ops")
    page.fill("#id_group_wait_s", "0")
    first.get_by_role("button", name="Remove").click()
    expect(page.get_by_role("region", name="Step 2")).to_have_count(0)
    expect(words).to_contain_text("If nobody has acknowledged it after 5 min: Boss.")
    words.get_by_role("button", name="Save").click()
    expect(page.get_by_role("region", name="Escalation policies")).to_contain_text("after 5 min: Boss")


@pytest.mark.skipif(MOSQUITTO is None, reason=NO_MOSQUITTO)
def test_an_alert_arrives_by_mqtt_and_goes_on_to_the_next_step_as_the_clock_moves(
    page: Page, product: Product, receiver: HttpReceiver, tmp_path: Path
) -> None:
    with Mosquitto(tmp_path) as broker, subscriber(broker, "house/alerts") as got:
        page.goto(f"{product.web_url}/alerts/channels/new/mqtt/")
        page.fill("#id_name", "House")
        page.fill("#id_host", "127.0.0.1")
        page.fill("#id_port", str(broker.port))
        page.fill("#id_topic", "house/alerts")
        page.get_by_role("button", name="Save").click()
        add_webhook(page, product, receiver)
        page.goto(f"{product.web_url}/alerts/escalation/new/")
        page.fill("#id_name", "Ops")
        page.fill("#id_group_wait_s", "0")
        page.get_by_label("for all rules that name none").check()
        page.get_by_role("region", name="Step 1").get_by_label("House").check()
        page.get_by_role("button", name="Add a step").click()
        second = page.get_by_role("region", name="Step 2")
        second.get_by_label("Minutes after it fired").fill("15")
        second.get_by_label("Boss").check()
        page.locator(".go").get_by_role("button", name="Save").click()
        expect(page.get_by_role("region", name="Escalation policies")).to_contain_text("after 15 min: Boss")

        page.goto(f"{product.web_url}/alerts/")
        manage(product, RULE)
        page.locator("#alerts").get_by_role("link", name="Pressure on").click(timeout=FIRES_MS)
        wait_for(lambda: got, "the broker hands on the alert", 20)
        said = json.loads(got[0].payload)
        assert (said["event"], said["labels"]["rule"]) == ("fired", "Pressure")
        assert page.url.endswith(f"/alerts/{said['alert_id']}/")
        steps = page.locator("section", has=page.get_by_role("heading", name="Escalation"))
        expect(steps.locator("li", has_text="step 1")).to_contain_text("taken")
        expect(steps.locator("li", has_text="step 2")).to_contain_text("waiting")
        assert receiver.got == []

        # The page that stands open shows what happens then by itself.
        manage(product, LATER)
        expect(steps.locator("li", has_text="step 2")).to_contain_text("taken")
        happened = page.locator("section", has=page.get_by_role("heading", name="What happened"))
        expect(happened).to_contain_text("step 2: Boss")
        row = page.locator(".deliveries tr", has_text="Boss")
        expect(row).to_contain_text("escalated")
        expect(row).to_contain_text("sent")
        # The worker's clock and the one moved here differ, so that both may send; always under one key.
        assert {each.json["event"] for each in receiver.got} == {"escalated"}
        assert len({each.headers["idempotency-key"] for each in receiver.got}) == 1
        assert [json.loads(each.payload)["event"] for each in got] == ["fired"]
