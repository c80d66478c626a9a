"""A rule from its first word to its alert: written with a preview, made to fire by real load, seen by somebody else."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page, expect

from tests.inference.test_transcripts import call
from tests.product import Product

FIRES_MS = 90_000


@contextmanager
def load(product: Product) -> Iterator[None]:
    """A model that generates all the time, for two clients: what other work on the machine neither makes nor ends."""
    stopped = threading.Event()

    def ask() -> None:
        body = {"model": "aicleaner-sample", "prompt": "Room: kitchen. Seen: dirty dishes.", "stream": False}
        while not stopped.is_set():
            call(product.gateway_url, "POST", "/api/generate", {"Cache-Control": "no-cache"}, body)

    askers = [threading.Thread(target=ask) for _ in range(2)]
    for each in askers:
        each.start()
    try:
        yield
    finally:
        stopped.set()
        for each in askers:
            each.join()


def test_a_rule_is_written_with_a_preview_fires_and_is_silenced(
    page: Page, phone: Page, product: Product
) -> None:
    page.goto(f"{product.web_url}/alerts/rules/")
    page.get_by_role("link", name="New rule").click()
    expect(page.locator("#words")).to_contain_text("Not a whole rule yet")
    expect(page.locator("#words")).to_contain_text("Choose a series")
    # What another condition needs is not in the way, and its window comes with it.
    expect(page.locator("#id_limit")).to_be_hidden()
    page.select_option("#id_kind", "forecast")
    expect(page.locator("#id_limit")).to_be_visible()
    expect(page.locator("#id_window_s")).to_have_value("21600")
    page.select_option("#id_kind", "threshold")
    expect(page.locator("#series-names option[value=cpu_percent]")).to_have_attribute(
        "label", re.compile("%$")
    )
    page.fill("#id_name", "Busy")
    page.fill("#id_series", "gateway_tokens_per_s")
    page.select_option("#id_aggregate", "mean")
    page.fill("#id_window_s", "3")
    page.fill("#id_fire_at", "1")
    page.fill("#id_clear_at", "2")
    page.fill("#id_for_s", "1")
    page.fill("#id_keep_firing_for_s", "1")
    page.get_by_role("button", name="Save the rule").click()
    expect(page.locator(".error")).to_contain_text("has to clear below it")
    page.fill("#id_clear_at", "0.5")
    expect(page.locator("#words")).to_contain_text("the mean of 3 s is at least 1")
    expect(page.locator("#words")).to_contain_text("gateway_tokens_per_s")
    with load(product):
        page.get_by_role("button", name="Preview").click()
        expect(page.locator("#preview")).to_contain_text("In the last 24 h", timeout=30_000)
        expect(page.locator("#preview .main-svg").first).to_be_visible()
        expect(page.locator("#preview")).to_contain_text("of that time has no samples")
        page.get_by_role("button", name="Save the rule").click()
        expect(page.get_by_role("status").filter(has_text="is saved")).to_be_visible()
        row = page.locator("table.rules tr", has_text="Busy")
        expect(row).to_contain_text("1 firing", timeout=FIRES_MS)

        # Somebody else sees it, acknowledges and silences it.
        expect(phone.locator("#alerts")).to_contain_text("Busy on", timeout=FIRES_MS)
        phone.locator("#alerts").get_by_role("link", name=re.compile("^Busy on")).first.click()
        phone.fill("#acknowledge textarea", "a test asks without an end")
        phone.locator("#acknowledge").get_by_role("button").click()
        expect(page.locator("#alert-strip")).to_contain_text("acknowledged by admin")
        phone.locator("#resolve").get_by_role("link", name="Silence").click()
        phone.fill("#id_matchers", "rule=Busy")
        expect(phone.locator("#new")).to_contain_text("Busy on")
        phone.fill("#id_reason", "as long as the test runs")
        phone.get_by_role("button", name="Set the silence").click()
        expect(phone.locator("#silences")).to_contain_text("as long as the test runs")
        phone.get_by_role("button", name="End it now").click()
        expect(phone.locator("#silences")).to_contain_text("Nothing is silenced")

    # The preview knows now what happened, and the rule goes.
    expect(row).to_contain_text("1 ok", timeout=FIRES_MS)
    row.get_by_role("link", name="Busy", exact=True).click()
    expect(page.locator("#preview")).to_contain_text(
        re.compile(r"would have fired [1-9]\d* time"), timeout=30_000
    )
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name="Delete the rule").click()
    expect(page.get_by_role("status").filter(has_text="is deleted")).to_be_visible()
    expect(page.locator("table.rules")).not_to_contain_text("Busy")
