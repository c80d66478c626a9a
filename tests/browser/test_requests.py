"""Requests that go through the gateway are found in the log, one by one and in sum."""

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.inference.test_transcripts import call
from tests.product import Product, wait_for

SENTENCE = "Room: kitchen. Seen: dirty dishes in the sink; crumbs on the floor; a wet towel on the chair. "


def ask(product: Product, client: str, **fields: Any) -> Any:
    body = {"model": "aicleaner-sample", "stream": False, "options": {"num_predict": 4}, **fields}
    return call(product.gateway_url, "POST", "/api/generate", {"x-aicleaner-client": client}, body)


def rows(page: Page) -> Any:
    return page.locator("table.requests tbody tr")


def test_a_cut_prompt_is_found_by_filters_and_explained(page: Page, product: Product) -> None:
    for n in range(6):
        ask(product, "kitchen", prompt=f"{n}. " + SENTENCE * 3, options={"num_ctx": 512, "num_predict": 4})
    page.goto(f"{product.web_url}/requests/?client=kitchen")
    wait_for(lambda: page.reload() and rows(page).count() == 6, "the requests are stored", 20)

    # The list stays as it is while others come; a click shows them.
    ask(product, "kitchen", prompt=SENTENCE * 30, options={"num_ctx": 256, "num_predict": 4})
    ask(product, "elsewhere", model="no-such-model", prompt="x")
    newer = page.get_by_role("link", name="1 new request: show")
    expect(newer).to_be_visible(timeout=20_000)
    expect(rows(page)).to_have_count(6)
    newer.click()
    expect(rows(page)).to_have_count(7)
    expect(rows(page).first).to_contain_text("prompt likely cut")
    expect(rows(page).first).to_contain_text("reloaded")

    # By keyboard: the fold, a filter, and the request.
    page.get_by_label("Client").fill("")
    page.get_by_label("Prompt", exact=True).select_option("likely or possibly cut")
    page.get_by_role("button", name="Show").press("Enter")
    expect(page).to_have_url(re.compile("cut=suspect"))
    expect(rows(page)).to_have_count(1)
    rows(page).first.get_by_role("link").press("Enter")
    expect(page.locator(".banner").first).to_contain_text("130 tokens were evaluated")
    expect(page.locator(".banner").nth(1)).to_contain_text("num_ctx from 512 to 256")
    expect(page.locator("main")).to_contain_text("loading the model")
    expect(page.locator("main")).to_contain_text("Not kept.")

    page.get_by_role("link", name="Reloads of this model").click()
    expect(page.locator("table.flips")).to_contain_text("num_ctx 256")
    expect(page.locator("table.flips")).to_contain_text("512 holds both")

    page.goto(f"{product.web_url}/requests/?result=failed")
    expect(rows(page).filter(has_text="elsewhere")).to_contain_text("model 'no-such-model' not found")
    page.get_by_role("link", name="Figures").click()
    expect(page).to_have_url(re.compile("result=failed"))
    expect(page.get_by_label("Errors by text")).to_contain_text("model 'no-such-model' not found")


def test_the_filtered_requests_are_downloaded(page: Page, product: Product) -> None:
    ask(product, "download", prompt="one")
    page.goto(f"{product.web_url}/requests/?client=download&range=1h")
    wait_for(lambda: page.reload() and rows(page).count() == 1, "the request is stored", 20)
    page.get_by_text("Export").click()
    with page.expect_download() as started:
        page.get_by_role("link", name="JSON").click()
    found = json.loads(started.value.path().read_text())
    assert [each["client"] for each in found["requests"]] == ["download"]
    assert found["bounded"] is False


@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize(
    "path", ["", "figures/", "reloads/", "contexts/", "?client=nobody", "?api=openai&slower=1"]
)
def test_no_page_of_requests_is_wider_than_the_window(
    page: Page, product: Product, path: str, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(f"{product.web_url}/requests/{path}")
    expect(page.locator("h1")).to_be_visible()
    page.wait_for_function("document.documentElement.scrollWidth <= innerWidth")
