"""The cache of the gateway is seen, cleared and given zones, on a phone and by keyboard."""

from typing import Any

from playwright.sync_api import Page, expect

from tests.inference.test_transcripts import call
from tests.product import Product, wait_for

MODEL = "aicleaner-sample:latest"


def ask(product: Product, prompt: str) -> str:
    options = {"temperature": 0, "num_predict": 4}
    body: dict[str, Any] = {
        "model": "aicleaner-sample",
        "prompt": prompt,
        "stream": False,
        "options": options,
    }
    return str(call(product.gateway_url, "POST", "/api/generate", {}, body).headers["x-aicleaner-cache"])


def test_what_is_kept_is_shown_as_it_comes_and_forgotten_by_a_key(page: Page, product: Product) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(f"{product.web_url}/models/")
    page.get_by_role("link", name="Cache", exact=True).click()
    expect(page.locator("h1")).to_have_text("Cache")
    wait_for(lambda: ask(product, "seen") == "hit", "an answer is kept")
    row = page.locator("table.cached tr", has_text=MODEL)
    expect(row.locator("[data-label=kept]")).not_to_have_text("0", timeout=15_000)  # without a reload
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    button = page.get_by_role("button", name=f"Clear the answers of {MODEL}")
    button.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".banner.success")).to_contain_text(f"of {MODEL}.")
    assert ask(product, "seen") == "miss"


def test_a_zone_is_set_refused_and_removed(page: Page, product: Product, problems: list[str]) -> None:
    page.goto(f"{product.web_url}/cache/")
    page.get_by_label("Zone").fill("kitchen")
    page.get_by_label("Distance").fill("99")
    page.get_by_role("button", name="Set").click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was set")
    expect(page.locator(".field.bad")).to_have_count(1)
    assert all("400" in each for each in problems)
    problems.clear()
    page.get_by_label("Distance").fill("6")
    page.get_by_role("button", name="Set").click()
    expect(page.locator(".banner.success")).to_contain_text("The gateway uses it")
    expect(page.locator(".zone")).to_contain_text("up to 6 of 64 bits")
    page.get_by_role("button", name="Remove zone kitchen").click()
    expect(page.locator(".zone")).to_have_count(0)
