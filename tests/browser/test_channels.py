"""A channel from its form to the notice that arrives."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.monitoring.receivers import HttpReceiver, http_receiver
from tests.product import Product, wait_for


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with http_receiver() as found:
        yield found


def test_a_webhook_is_added_tested_and_hears_of_it(
    page: Page, product: Product, receiver: HttpReceiver
) -> None:
    page.goto(f"{product.web_url}/alerts/")
    page.get_by_role("link", name="Channels").click()
    page.get_by_text("New channel").click()
    page.locator(".menu").get_by_role("link", name="Webhook").click()
    assert page.input_value("#id_signing_secret").startswith("whsec_")
    page.fill("#id_name", "Pager")
    page.fill("#id_url", "http://169.254.169.254/")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".field.bad")).to_contain_text("link-local")
    expect(page.locator("#id_name")).to_have_value("Pager")
    page.fill("#id_url", f"{receiver.url}/a-token-in-the-path")
    page.get_by_role("button", name="Save").click()

    row = page.locator(".channels li", has_text="Pager")
    expect(row).to_contain_text("unused")
    row.get_by_role("button", name="Send test").click()
    expect(page.locator(".channels li", has_text="Pager")).to_contain_text("test delivered", timeout=60_000)
    assert receiver.got[0].json["event"] == "test"
    assert "webhook-signature" in receiver.got[0].headers

    # It stops answering: the result comes by itself.
    receiver.status = 403
    row.get_by_role("button", name="Send test").click()
    expect(page.locator(".channels li", has_text="Pager")).to_contain_text("403 Forbidden", timeout=60_000)
    assert "a-token-in-the-path" not in page.content()
    wait_for(lambda: "a-token" not in product.output(), "no secret on the terminal", 1)

    row.get_by_role("link", name="Pager").click()
    assert page.input_value("#id_url") == ""
    page.get_by_role("link", name="Delete").click()
    page.get_by_role("button", name="Delete").click()
    expect(page.locator(".channels")).not_to_contain_text("Pager")


@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize(
    "path", ["/alerts/channels/", "/alerts/channels/new/mail/", "/alerts/channels/new/webhook/"]
)
def test_no_page_is_wider_than_the_window(page: Page, product: Product, width: int, path: str) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(f"{product.web_url}{path}")
    expect(page.locator("h1")).to_be_visible()
    page.wait_for_function("document.documentElement.scrollWidth <= innerWidth")
