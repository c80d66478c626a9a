"""Make a variant from the form, watch it in two browsers, let it answer for its source, and take that back."""

import json
import re
import urllib.request
from collections.abc import Iterator
from email.message import Message

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.product import Product

FEW = {
    "n_prompts": "3",
    "n_tokens": "4",
    "n_scored": "2",
    "n_pairs": "1",
    "num_predict": "8",
    "num_ctx": "256",
}


@pytest.fixture
def other(browser: Browser, page: Page) -> Iterator[Page]:
    """A second browser, logged in as the same person."""
    context = browser.new_context(storage_state=page.context.storage_state())
    yield context.new_page()
    context.close()


def headers_of_an_answer(product: Product) -> Message:
    body = {"model": "aicleaner-sample", "prompt": "x", "stream": False, "options": {"num_predict": 1}}
    request = urllib.request.Request(f"{product.gateway_url}/api/generate", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.headers  # type: ignore[no-any-return]


def test_a_variant_is_made_compared_used_and_given_back(page: Page, other: Page, product: Product) -> None:
    page.goto(f"{product.web_url}/models/jobs/new/?kind=quantize")
    page.select_option("[name=source]", "embedded|aicleaner-sample:latest")
    page.select_option("[name=level]", "Q4_0")
    page.fill("[name=target]", "not a name")
    for name, value in FEW.items():
        page.fill(f"[name={name}]", value)
    page.click("text=Make and measure")
    expect(page.locator("#id_target_error")).to_contain_text("is no model name")
    expect(page.locator("[name=n_pairs]")).to_have_value("1")  # what was typed is kept
    page.fill("[name=target]", "sample:tried")
    other.goto(f"{product.web_url}/models/jobs/")
    page.click("text=Make and measure")
    page.wait_for_url(re.compile(r"/models/jobs/\d+/$"), wait_until="commit")
    expect(page.locator("#job .badge").first).to_have_text("done", timeout=120_000)
    expect(other.locator("#jobs")).to_contain_text("sample:tried")
    expect(other.locator("#jobs .badge").first).to_have_text("done", timeout=20_000)
    for text in ("Size", "Load time", "Writing", "Divergence (KL)", "Right answers"):
        expect(page.locator(".figures")).to_contain_text(text)

    other.goto(f"{product.web_url}/models/variants/")
    expect(other.locator(".js-plotly-plot")).to_have_count(2)
    for better in ("smaller", "faster"):
        expect(other.locator("#variants")).to_contain_text(f"nothing is both {better} and closer")
    page.goto(f"{product.web_url}/models/variants/")
    page.get_by_role("link", name="sample:tried").click()
    expect(page.locator("table.heat")).to_contain_text("Q4_0")
    assert "x-aicleaner-model" not in headers_of_an_answer(product)
    page.click("text=Use this variant")
    expect(page.locator(".banner.success")).to_contain_text("uses it from the next request on")
    assert headers_of_an_answer(product)["x-aicleaner-model"] == "sample:tried"
    expect(other.locator(".aliases")).to_contain_text("answers for aicleaner-sample:latest")
    other.click("text=Undo")
    expect(other.locator(".banner.success")).to_be_visible()
    expect(page.locator(".aliases")).to_have_count(0)
    assert "x-aicleaner-model" not in headers_of_an_answer(product)


@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize("path", ["jobs/", "jobs/new/?kind=quantize", "jobs/new/?kind=measure", "variants/"])
def test_no_page_is_wider_than_the_window(page: Page, product: Product, width: int, path: str) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(f"{product.web_url}/models/{path}")
    expect(page.locator("h1")).to_be_visible()
    page.wait_for_function("document.documentElement.scrollWidth <= innerWidth")
