"""A cloud is added, a model gets it as its fallback, the local engine dies: the cloud answers, and the pages say so."""

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.inference.cloud_server import KEY, CloudServer, cloud_server
from tests.inference.old_ollama import OldOllama, old_ollama
from tests.inference.test_transcripts import Answer, call
from tests.product import Product, wait_for


@pytest.fixture
def cloud() -> Iterator[CloudServer]:
    with cloud_server() as server:
        yield server


@pytest.fixture
def shed() -> Iterator[OldOllama]:
    with old_ollama("broom") as server:
        yield server


def ask(product: Product) -> Answer:
    body = {"model": "broom", "messages": [{"role": "user", "content": "What is to do?"}], "stream": False}
    return call(product.gateway_url, "POST", "/api/chat", {"x-aicleaner-client": "robot"}, body)


def add(page: Page, product: Product, kind: str, name: str, url: str) -> None:
    page.goto(f"{product.web_url}/engines/")
    page.get_by_role("link", name="Add an engine").click()
    page.get_by_label("Name").fill(name)
    page.get_by_label("Kind").select_option(kind)
    page.get_by_label("Address").fill(url)
    if kind == "openai":
        page.get_by_label("API key").fill(KEY)
        page.get_by_label("Budget of a month").fill("5")
        page.get_by_label("Prices of").select_option("openai")
    page.get_by_role("button", name="Save and test").click()
    expect(page.locator(".banner.success").last).to_contain_text(f"{name} answers:")


def remove(page: Page, product: Product, name: str) -> None:
    page.goto(f"{product.web_url}/engines/")
    page.get_by_role("link", name=f"Change {name}", exact=True).click()
    page.get_by_role("link", name="Remove…").click()
    page.get_by_role("button", name="Remove").click()
    expect(page.locator(".banner.success").last).to_contain_text(f"{name} is removed.")


def test_the_cloud_helps_out_when_the_local_engine_dies(
    page: Page, product: Product, cloud: CloudServer, shed: OldOllama
) -> None:
    add(page, product, "ollama", "shed", shed.url)
    expect(page.get_by_label("API key")).to_have_count(0)
    add(page, product, "openai", "sky", cloud.url)
    expect(page.locator("#engine-shed")).to_contain_text("0.1.32", timeout=30_000)  # without a reload
    page.get_by_role("link", name="New fallback").click()
    page.get_by_label("Asked for as").fill("broom")
    page.get_by_label("Its model").fill("gpt-4o-mini")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("region", name="Fallbacks")).to_contain_text(
        "broom:latest here, else gpt-4o-mini of sky"
    )
    wait_for(lambda: ask(product).headers["x-aicleaner-engine"] == "shed", "the local one answers")
    shed.die()
    answer = ask(product)
    assert (answer.headers["x-aicleaner-engine"], answer.headers["x-aicleaner-route"]) == (
        "sky",
        "fallback: engine down",
    )
    assert json.loads(answer.body)["message"]["content"] == "Mop the floor."
    page.set_viewport_size({"width": 360, "height": 740})
    expect(page.locator("#engine-shed .badge").first).to_have_text("down", timeout=30_000)  # without a reload
    expect(page.locator("#engine-shed")).to_contain_text("Connection refused")
    expect(page.locator("#engine-sky")).to_contain_text("1 request", timeout=30_000)
    expect(page.locator("#engine-sky")).to_contain_text("$0.00045 of $5.00")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.goto(f"{product.web_url}/requests/?client=robot")
    row = page.locator("table.requests tbody tr").first
    expect(row).to_contain_text("sky, fallback: engine down, $0.00045")
    page.goto(f"{product.web_url}/engines/")
    remove_button = page.get_by_role("button", name="Remove the fallback of broom:latest")
    remove_button.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".banner.success").last).to_contain_text("The gateway uses it")
    for name in ("sky", "shed"):
        remove(page, product, name)


def test_an_engine_of_the_settings_is_tested_by_a_key(page: Page, product: Product) -> None:
    page.goto(f"{product.web_url}/engines/")
    button = page.get_by_role("button", name="Test Embedded engine")
    button.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".banner.success")).to_contain_text("Embedded engine answers: version")
    page.get_by_role("button", name="Test Ollama").click()
    expect(page.locator(".banner.crit")).to_contain_text("Connection refused: nobody listens at 127.0.0.1:1")
