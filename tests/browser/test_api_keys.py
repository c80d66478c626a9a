"""A key is made, copied, used, limited and revoked, on a phone and by keyboard."""

import json

from playwright.sync_api import Page, expect

from tests.inference.test_transcripts import call
from tests.product import Product, wait_for

AWAY = {"X-Forwarded-For": "192.0.2.7"}


def ask(product: Product, token: str) -> int:
    body = {"model": "aicleaner-sample", "prompt": "x", "stream": False, "options": {"num_predict": 1}}
    headers = {**AWAY, "Authorization": f"Bearer {token}"}
    return call(product.gateway_url, "POST", "/api/generate", headers, body).status


def test_a_key_from_its_making_to_its_end(page: Page, product: Product) -> None:
    assert call(product.gateway_url, "POST", "/api/generate", AWAY, {"model": "x"}).status == 401
    page.set_viewport_size({"width": 360, "height": 740})
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(f"{product.web_url}/keys/new/")
    page.get_by_label("Name").fill("camera")
    page.get_by_label("Tokens a month").fill("1000000")
    page.get_by_label("Tokens a month").press("Enter")
    expect(page.locator(".banner.success")).to_contain_text("from the next request on")
    page.get_by_role("button", name="Copy").press("Enter")
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    token = str(page.evaluate("navigator.clipboard.readText()"))
    assert ask(product, token) == 200
    page.get_by_role("link", name="I have it").click()
    assert token not in page.content()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    cell = page.locator("table.months tbody td").first

    def is_counted() -> bool:
        page.reload()
        return cell.inner_text().strip() == "1"

    wait_for(is_counted, "the request is counted")
    page.get_by_role("link", name="list").click()
    expect(page.locator("table.requests tbody tr")).to_have_count(1)
    page.go_back()
    page.get_by_role("button", name="Disable").press("Enter")
    expect(page.locator("header .badge")).to_have_text("disabled")
    assert ask(product, token) == 401
    page.get_by_role("link", name="Delete").click()
    page.get_by_role("button", name="Delete").click()
    expect(page.locator("h1")).to_have_text("API keys")
    told = call(
        product.gateway_url, "POST", "/api/generate", {**AWAY, "Authorization": f"Bearer {token}"}, {}
    )
    assert json.loads(told.body) == {"error": "this API key is not known"}


def test_the_clock_of_an_expiry_is_the_viewers(page: Page, product: Product) -> None:
    page.goto(f"{product.web_url}/keys/new/")
    page.get_by_label("Name").fill("guest")
    page.get_by_label("Expires").fill("2099-07-01T12:00")
    page.get_by_role("button", name="Make the key").click()
    page.get_by_role("link", name="I have it").click()
    expect(page.get_by_label("Expires")).to_have_value("2099-07-01T12:00")
    page.get_by_label("Requests a minute").fill("5")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_label("Expires")).to_have_value("2099-07-01T12:00")
    expect(page.get_by_label("Requests a minute")).to_have_value("5")
