"""The models' page in two browsers: load, unload, copy and delete; a pull that is watched and cancelled."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import log_in, watch
from tests.inference.gateways import ROOM
from tests.inference.stand_in import END, LAYERS, StandIn, stand_in
from tests.inference.test_transcripts import call
from tests.product import Product, wait_for

MODEL, COPY = "aicleaner-sample:latest", "aicleaner-copy:v1"
LIST = "/models/"


@pytest.fixture
def other(browser: Browser, page: Page, product: Product) -> Iterator[Page]:
    """A second browser, logged in as the same person, on the list."""
    context = browser.new_context(storage_state=page.context.storage_state())
    second = context.new_page()
    second.goto(product.web_url + LIST)
    yield second
    context.close()


def row(page: Page, name: str = MODEL) -> str:
    return f'#models [data-model="{name}"]'


def unload(page: Page, product: Product) -> None:
    page.goto(product.web_url + LIST)
    button = page.locator(f"{row(page)} button")
    if button.inner_text().startswith("Unload"):
        button.click()
        expect(page.locator(row(page))).to_contain_text("not loaded")


def test_load_watch_keep_unload_copy_and_delete(page: Page, other: Page, product: Product) -> None:
    unload(page, product)
    expect(other.locator(row(other))).to_contain_text("not loaded")
    page.locator(f"{row(page)} button").click()
    for each in (page, other):
        expect(each.locator(row(each))).to_contain_text("on the CPU", timeout=30_000)
        expect(each.locator(f"{row(each)} button")).to_have_text(re.compile("Unload"))
    expect(other.locator("#log li").first).to_contain_text("by admin")

    page.click(f"{row(page)} a")
    expect(page.locator("h1")).to_have_text(MODEL)
    page.select_option("#id_keep", "forever")
    page.get_by_role("button", name="Keep", exact=True).click()
    expect(page.locator("#now")).to_contain_text("kept until it is unloaded")
    expect(other.locator(row(other))).to_contain_text("kept until it is unloaded")

    page.fill("#id_target", COPY)
    page.get_by_role("button", name="Copy").click()
    expect(page.locator("p.banner")).to_contain_text(f"is copied to {COPY}")
    expect(other.locator(row(other, COPY))).to_be_visible()

    page.get_by_role("button", name="Unload").click()
    expect(other.locator(row(other))).to_contain_text("not loaded")

    page.goto(f"{product.web_url}/models/embedded/{COPY}/")
    page.click("text=Delete…")
    page.fill("#id_typed", "something else")
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("alert")).to_contain_text(f"type {COPY}")
    page.fill("#id_typed", COPY)
    page.get_by_role("button", name="Delete").click()
    expect(page.locator("p.banner")).to_contain_text(f"{COPY} is deleted")
    expect(other.locator(row(other, COPY))).to_have_count(0)
    expect(other.locator("#log li").first).to_contain_text(COPY)


def test_what_happens_without_a_person_reaches_the_page(page: Page, product: Product) -> None:
    unload(page, product)
    body = {"model": "aicleaner-sample", "prompt": ROOM, "stream": False, "keep_alive": "3s"}
    call(product.gateway_url, "POST", "/api/generate", {"Cache-Control": "no-cache"}, body)
    expect(page.locator(row(page))).to_contain_text("on the CPU", timeout=15_000)
    expect(page.locator(row(page))).to_contain_text("not loaded", timeout=20_000)
    expect(page.locator("#log li").first).to_contain_text("its keep-alive was over")
    expect(page.locator("#log li").first).to_contain_text("by engine (by itself)")


def test_the_filter_and_the_keyboard(page: Page, product: Product) -> None:
    page.goto(product.web_url + LIST)
    page.fill("#id_q", "nothing like it")
    page.keyboard.press("Enter")
    expect(page.locator("#models")).to_contain_text("No model matches")
    page.get_by_role("link", name="Show all models").press("Enter")
    expect(page.locator(row(page))).to_be_visible()
    page.locator("summary", has_text="Pull a model").press("Enter")
    expect(page.locator("#pull")).to_contain_text("The embedded engine has no registry behind it")


@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize(
    "path",
    ["", "log/", f"embedded/{MODEL}/", f"delete/?engine=embedded&model={MODEL}", "embedded/nothing:1b/"],
)
def test_no_page_is_wider_than_the_screen(
    page: Page, product: Product, width: int, path: str, problems: list[str]
) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(product.web_url + LIST + path)
    page.wait_for_function("document.documentElement.scrollWidth <= innerWidth")
    if "nothing" in path:
        assert all("404" in each for each in problems)
        problems.clear()


@pytest.fixture(scope="module")
def ollama() -> Iterator[StandIn]:
    with stand_in() as server:
        yield server


@pytest.fixture(scope="module")
def with_ollama(ollama: StandIn) -> Iterator[Product]:
    with Product(AICLEANER_ADMIN_PASSWORD="only-for-this-test", OLLAMA_HOST=ollama.url) as running:
        yield running


def test_a_pull_goes_on_without_its_page_and_every_browser_sees_it(
    browser: Browser, with_ollama: Product, ollama: StandIn, problems: list[str]
) -> None:
    ollama.script = (*LAYERS[:3], None, *LAYERS[3:], *END)
    context = browser.new_context()
    page, other = context.new_page(), context.new_page()
    watch(page, with_ollama, problems)
    log_in(page, with_ollama)
    other.goto(with_ollama.web_url + LIST)

    def pull() -> None:
        page.goto(with_ollama.web_url + LIST)
        page.click("text=Pull a model")
        page.fill("#pull [name=model]", "gemma3:4b")
        page.locator("#pull button").click()

    pull()
    page.goto("about:blank")  # the page is left, the pull goes on
    bar = other.locator("[data-pull] progress")
    expect(bar).to_be_visible(timeout=30_000)
    expect(other.locator("[data-show-as=bytes]")).to_have_text("1.00 GiB of 4.00 GiB", timeout=30_000)
    assert bar.evaluate("bar => bar.value / bar.max") == 0.25
    other.get_by_role("button", name="Cancel").click()
    expect(other.locator("#pulls")).to_contain_text("Cancelled by admin", timeout=20_000)
    expect(other.locator("#log li").first).to_contain_text("gemma3:4b")
    assert ollama.left.wait(10)

    ollama.go_on.set()
    pull()
    expect(other.locator("#log li").first.locator(".badge.ok")).to_have_text("pull", timeout=30_000)
    wait_for(lambda: len(ollama.pulled) == 2, "it was pulled again", 5)

    ollama.script = ({"status": "pulling manifest"}, {"error": "pull model manifest: file does not exist"})
    pull()
    expect(other.locator("#pulls")).to_contain_text(
        "Pull model manifest: file does not exist.", timeout=30_000
    )
    context.close()
    assert not problems
