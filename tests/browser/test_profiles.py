"""The fourth journey: a profile is edited in the admin, and the very next request uses it; every open page shows it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.inference.test_transcripts import call
from tests.product import Product

LIST = "/tuning/profiles/"
PROFILE = "use_case_interactive"
PROMPT = "Room: kitchen. Seen: dirty dishes in the sink; crumbs on the floor."


def ask(product: Product) -> tuple[str | None, dict[str, Any]]:
    """(profile, answer) of one request that names no options."""
    body = {"model": "aicleaner-sample", "prompt": PROMPT, "stream": False}
    answer = call(product.gateway_url, "POST", "/api/generate", {"Cache-Control": "no-cache"}, body)
    return answer.headers["x-aicleaner-profile"], json.loads(answer.body)


def loaded_context(product: Product) -> Any:
    models = json.loads(call(product.gateway_url, "GET", "/api/ps", {}, None).body)["models"]
    return models[0]["context_length"]


@pytest.fixture
def other(page: Page, product: Product) -> Iterator[Page]:
    """The second browser: logged in on its own, on the list of profiles."""
    browser = page.context.browser
    assert browser is not None
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    second = context.new_page()
    second.goto(f"{product.web_url}/login/?next={LIST}")
    second.fill("#id_username", "admin")
    second.fill("#id_password", "only-for-this-test")
    second.click("button[type=submit]")
    expect(second.locator("h1")).to_have_text("Profiles")
    yield second
    context.close()


@pytest.fixture(autouse=True)
def nothing_in_use_afterwards(page: Page, product: Product) -> Iterator[None]:
    yield
    page.goto(product.web_url + LIST)
    if page.get_by_role("button", name="Switch off").count():
        page.get_by_role("button", name="Switch off").click()
        expect(page.locator("#in-use")).to_contain_text("No profile is in use")


def test_an_edit_in_the_admin_is_used_by_the_very_next_request(
    page: Page, other: Page, product: Product
) -> None:
    assert ask(product)[0] == "none"
    page.goto(product.web_url + LIST)
    page.get_by_role("button", name=f"Activate {PROFILE}").click()
    expect(page.get_by_text("The gateway uses it from the next request on.")).to_be_visible()
    assert ask(product)[0] == PROFILE
    expect(other.locator("#in-use")).to_contain_text(PROFILE)  # without being loaded anew

    other.goto(f"{product.web_url}{LIST}{PROFILE}/")
    expect(other.locator("#field-num_predict .value")).to_have_text("512 tokens")
    page.goto(f"{product.web_url}{LIST}{PROFILE}/")
    page.get_by_role("link", name="Edit").click()
    page.fill("#id_num_predict", "4")
    page.fill("#id_context", "768")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("The gateway uses it from the next request on.")).to_be_visible()

    name, answer = ask(product)
    assert (name, answer["eval_count"], answer["done_reason"]) == (PROFILE, 4, "length")
    assert loaded_context(product) == 512  # what the sample model was trained for; it can't be more
    expect(other.locator("#field-num_predict .value")).to_have_text("4 tokens")
    expect(other.locator("#versions")).to_contain_text("512 tokens")
    expect(other.locator("#in-use")).to_contain_text("edited")

    other.locator("#versions summary").first.click()
    other.get_by_role("button", name="Restore version 1").click()
    expect(other.get_by_text("Restored, as version 3.")).to_be_visible()
    assert ask(product)[1]["done_reason"] == "stop"


def test_the_live_page_says_which_profile_and_when_it_changed(
    page: Page, other: Page, product: Product
) -> None:
    page.goto(product.web_url)
    expect(page.locator("#profile-pill")).to_have_text("Profile none")
    other.get_by_role("button", name="Activate use_case_demo").click()
    expect(page.locator("#profile-pill")).to_have_text("Profile use_case_demo")
    expect(page.locator("#lane [title*='profile use_case_demo']").first).to_be_attached()
    other.get_by_role("button", name="Undo").click()
    expect(page.locator("#profile-pill")).to_have_text("Profile none")
    page.locator("#profile-pill").click()
    expect(page.locator("#history")).to_contain_text("use_case_demo")


def test_a_bad_value_in_the_admin_stands_beside_its_field(page: Page, product: Product) -> None:
    page.goto(f"{product.web_url}{LIST}{PROFILE}/")
    page.get_by_role("link", name="Edit").click()
    page.fill("#id_temperature", "7")
    page.fill("#id_description", "kept as typed")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("7 is out of range: give 0 to 2.")).to_be_visible()
    expect(page.locator("#id_description")).to_have_value("kept as typed")


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize("path", [LIST, f"{LIST}{PROFILE}/"])
def test_nothing_is_wider_than_the_page(
    page: Page, product: Product, path: str, width: int, theme: str
) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.evaluate("theme => localStorage.setItem('adminTheme', JSON.stringify(theme))", theme)
    page.goto(product.web_url + path)
    expect(page.locator("html")).to_have_attribute("data-theme", theme)
    page.wait_for_function("document.documentElement.scrollWidth <= innerWidth")


def test_a_profile_is_put_to_use_by_keyboard(page: Page, product: Product) -> None:
    page.goto(f"{product.web_url}{LIST}use_case_demo/")
    page.locator("#note").focus()
    page.keyboard.type("by keyboard")
    page.keyboard.press("Enter")
    expect(page.locator("#in-use")).to_contain_text("by keyboard")
