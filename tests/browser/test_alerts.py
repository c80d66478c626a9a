"""An alert from its condition to its end, with two people looking."""

import re
from collections.abc import Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import log_in
from tests.product import Product

FIRES_S, RESOLVES_S = 60_000, 60_000


def set_memory_rule(page: Page, product: Product, **values: str) -> None:
    """On its page, as a person does."""
    page.goto(f"{product.web_url}/alerts/rules/")
    page.get_by_role("region", name="Rules").get_by_role("link", name="Memory", exact=True).click()
    for name, value in values.items():
        page.fill(f"#id_{name}", value)
    page.get_by_role("button", name="Save the rule").click()
    page.wait_for_url(re.compile(r"/rules/$"))


def test_an_alert_fires_is_acknowledged_and_resolves_before_two_people(
    page: Page, phone: Page, product: Product
) -> None:
    expect(phone.locator("#alerts")).to_contain_text("Nothing is wrong", timeout=30_000)
    set_memory_rule(
        page, product, fire_at="1", clear_at="0.5", for_s="1", keep_firing_for_s="1", window_s="2"
    )
    page.goto(product.web_url)
    page.wait_for_selector(".kpi")

    # It fires: the strip, the badge, the lane of the live page and the list of the other one show it by themselves.
    expect(page.locator("#alert-strip")).to_contain_text("Memory", timeout=FIRES_S)
    expect(page.locator("#alert-count")).to_contain_text("1")
    expect(page.locator("#lane [title*='Memory on']")).to_have_count(1)
    expect(phone.locator("#alerts")).to_contain_text("Memory on", timeout=FIRES_S)

    # A half-written note survives what happens meanwhile; an empty one is refused beside its field.
    phone.locator("#alerts a").first.click()
    phone.fill("#note textarea", "half a thought")
    page.locator("#alert-strip").get_by_role("link", name="Acknowledge").click()
    expect(page.locator("#plot .main-svg").first).to_be_visible()
    page.locator("#acknowledge").get_by_role("button").click()
    expect(page.locator("#acknowledge .error")).to_contain_text("Say what you found")
    page.fill("#acknowledge textarea", "closing the other tabs")
    page.locator("#acknowledge").get_by_role("button").click()
    expect(phone.locator(".timeline")).to_contain_text("closing the other tabs")
    expect(phone.locator("#alert-strip")).to_contain_text("acknowledged by admin")
    expect(phone.locator("#acknowledge")).to_have_count(0)
    expect(phone.locator("#note textarea")).to_have_value("half a thought")
    log = product.data_dir / "logs" / "alerts.log"
    assert len(re.findall(r"warning fired Memory", log.read_text())) == 1

    # The threshold is set back: it resolves, for both, and in the admin.
    admin = page.context.new_page()
    admin.goto(f"{product.web_url}/admin/")
    expect(admin.locator("#alert-strip")).to_contain_text("acknowledged by admin")
    set_memory_rule(page, product, fire_at="99.9", clear_at="99.5")
    expect(phone.locator("#alert header")).to_contain_text("resolved", timeout=RESOLVES_S)
    expect(phone.locator("#alert-strip .strip")).to_have_count(0)
    expect(admin.locator("#alert-strip p")).to_have_count(0)
    admin.close()
    expect(phone.locator("#alert-count")).to_be_hidden()
    expect(phone.locator(".timeline")).to_contain_text("resolved")
    page.goto(f"{product.web_url}/alerts/?state=resolved")
    expect(page.locator("#alerts")).to_contain_text("Memory on")


@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize(
    "path",
    [
        "/alerts/?state=all",
        "/alerts/1/",
        "/alerts/silences/?alert=1",
        "/alerts/rules/",
        "/alerts/rules/1/",
        "/alerts/rules/import/",
    ],
)
def test_no_page_is_wider_than_the_window(page: Page, product: Product, width: int, path: str) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(f"{product.web_url}{path}")
    expect(page.locator("h1")).to_be_visible()
    page.wait_for_function("document.documentElement.scrollWidth <= innerWidth")


@pytest.fixture
def abroad(browser: Browser, product: Product) -> Iterator[Page]:
    """A browser in New York, logged in."""
    context = browser.new_context(timezone_id="America/New_York")
    page = context.new_page()
    log_in(page, product)
    yield page
    context.close()


def test_the_chart_of_an_alert_is_on_the_viewers_clock(abroad: Page, product: Product) -> None:
    abroad.goto(f"{product.web_url}/alerts/1/")
    fired = abroad.locator(".of-fired time").first.get_attribute("datetime")
    assert fired is not None
    expect(abroad.locator("#plot .main-svg").first).to_be_visible()
    marks = abroad.evaluate("document.getElementById('plot')._fullLayout.shapes.map(each => String(each.x0))")
    wall = datetime.fromisoformat(fired).astimezone(ZoneInfo("America/New_York"))
    assert any(each.startswith(f"{wall:%Y-%m-%dT%H:%M:%S}") for each in marks), marks


def test_a_silence_is_set_in_the_viewers_zone_and_ended(abroad: Page, product: Product) -> None:
    page = abroad
    page.goto(f"{product.web_url}/alerts/silences/")
    page.fill("#id_matchers", "rule=~[")
    expect(page.locator("#new")).to_contain_text("is no regular expression")
    page.fill("#id_matchers", "rule=Memory")
    expect(page.locator("#new")).to_contain_text("no open alert")
    page.fill("#id_reason", "works")
    page.fill("#id_start", "2036-07-01T12:00")
    page.get_by_role("button", name="Set the silence").click()
    expect(page.locator("#silences time").first).to_have_attribute("datetime", "2036-07-01T16:00:00+00:00")
    expect(page.locator("#silences time").first).to_contain_text("12:00")
    page.get_by_role("button", name="End it now").click()
    expect(page.locator("#silences")).to_contain_text("Nothing is silenced")
