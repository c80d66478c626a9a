"""What every page keeps to: keyboard, theme, no word in the console, nothing from elsewhere."""

import re

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from tests.browser.conftest import log_in, watch
from tests.product import Product

PHONE: ViewportSize = {"width": 360, "height": 740}
PAGES = (
    "/",
    "/history/",
    "/requests/",
    "/requests/figures/",
    "/models/",
    "/models/log/",
    "/cache/",
    "/admin/",
    "/admin/inference/inferencerequest/",
    "/admin/monitoring/event/",
    "/admin/auth/user/",
    "/admin/auth/user/1/change/",
    "/admin/django_celery_beat/periodictask/",
    "/admin/django_celery_beat/intervalschedule/",
    "/admin/django_celery_beat/crontabschedule/",
)


def test_a_fresh_start_gives_a_link_that_logs_in_once(browser: Browser, product: Product) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(product.login_link())
    expect(page.locator("h1")).to_have_text("Live")
    context.close()
    other = browser.new_context().new_page()
    answer = other.goto(product.login_link())
    assert answer is not None
    assert answer.status == 410
    expect(other.locator("h1")).to_have_text("This link can't be used")
    other.get_by_role("link").click()
    expect(other).to_have_title("Log in - AICleaner Performance")
    other.context.close()


def test_a_wrong_password_is_said_and_the_live_page_asks_for_a_login(
    browser: Browser, product: Product
) -> None:
    page = browser.new_page()
    page.goto(product.web_url)
    assert "/login/" in page.url
    page.fill("#id_username", "admin")
    page.fill("#id_password", "wrong")
    page.click("button[type=submit]")
    expect(page.get_by_role("alert")).to_contain_text("correct username and password")
    expect(page.locator("#id_username")).to_have_value("admin")
    page.context.clear_cookies()
    page.fill("#id_password", "wrong")
    page.click("button[type=submit]")
    expect(page.locator("h1")).to_have_text("This form is out of date")
    page.close()


def test_a_page_that_is_not_there_says_so_and_leads_back(
    page: Page, product: Product, problems: list[str]
) -> None:
    answer = page.goto(f"{product.web_url}/nowhere/")
    assert answer is not None
    assert answer.status == 404
    page.get_by_role("link", name="To the live page").click()
    expect(page.locator("h1")).to_have_text("Live")
    assert all("404" in each for each in problems)
    problems.clear()


def test_no_page_says_a_word_in_the_console_or_asks_elsewhere(page: Page, product: Product) -> None:
    for path in PAGES:
        answer = page.goto(f"{product.web_url}{path}")
        assert answer is not None
        assert answer.status == 200, path
        page.wait_for_load_state("networkidle" if path != "/" else "load")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        assert "AICleaner" in page.title()


def test_the_live_page_loads_no_plotly(page: Page) -> None:
    names = page.evaluate("performance.getEntriesByType('resource').map(each => each.name)")
    assert names
    assert not any("plotly" in name.lower() for name in names)


def test_the_admin_leads_back_to_the_live_page(page: Page, product: Product) -> None:
    page.goto(f"{product.web_url}/admin/")
    page.get_by_role("link", name="Back to the live page").click()
    expect(page.locator("h1")).to_have_text("Live")


@pytest.mark.parametrize("system", ["dark", "light"])
def test_the_first_visit_follows_the_system_and_a_choice_stays_everywhere(
    browser: Browser, product: Product, system: str
) -> None:
    context = browser.new_context(color_scheme="dark" if system == "dark" else "light")
    page = context.new_page()
    log_in(page, product)
    root, other = page.locator("html"), "light" if system == "dark" else "dark"
    expect(root).to_have_attribute("data-theme", system)
    page.emulate_media(color_scheme="dark" if other == "dark" else "light")
    expect(root).to_have_attribute("data-theme", other)  # the system changed, and nobody chose yet
    page.click("#theme")
    expect(root).to_have_attribute("data-theme", system)
    page.reload()
    expect(root).to_have_attribute("data-theme", system)
    page.goto(f"{product.web_url}/admin/")
    dark = re.compile(r"\bdark\b")
    (expect(root).to_have_class if system == "dark" else expect(root).not_to_have_class)(dark)
    context.close()


def test_every_control_is_reached_by_tab_with_a_ring_around_it(page: Page) -> None:
    expect(page.locator("#prompt-send")).to_be_enabled(timeout=40_000)
    page.reload()
    expect(page.locator("#prompt-send")).to_be_enabled(timeout=40_000)
    reached = []
    for _ in range(30):
        page.keyboard.press("Tab")
        name, ring = page.evaluate(
            """() => { const it = document.activeElement;
                const name = it === document.body ? '' : it.id || it.textContent.trim();
                return [name, getComputedStyle(it).outlineStyle]; }"""
        )
        reached.append(name)
        assert ring != "none" or not name, f"no ring around {name}"
    order = ["Skip to content", "Live", "Requests", "Events", "Admin", "Log out", "theme", "span"]
    order += ["prompt-model", "prompt-text", "prompt-send", "lane"]
    assert [each for each in reached if each in order][: len(order)] == order
    page.reload()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()


def test_the_cursor_through_all_charts_moves_by_keys_and_goes_from_event_to_event(page: Page) -> None:
    lane = page.locator("#lane")
    lane.focus()
    expect(lane).to_have_attribute("aria-valuetext", "now")
    page.keyboard.press("ArrowLeft")
    expect(lane).to_have_attribute("aria-valuetext", re.compile(r"^\d\d:\d\d:\d\d · \d+ s ago"))
    expect(page.locator(".u-cursor-x:not(.u-off)")).not_to_have_count(0)
    page.keyboard.press("PageUp")
    expect(lane).to_have_attribute("aria-valuetext", re.compile(r"ago · \w+"))
    page.keyboard.press("Escape")
    expect(lane).to_have_attribute("aria-valuetext", "now")


def test_one_cursor_goes_through_all_charts_and_their_legends_say_its_second(page: Page) -> None:
    expect(page.locator("#connection")).to_have_text("live")
    page.locator(".plot").first.scroll_into_view_if_needed()
    page.locator(".plot .u-over").first.hover(position={"x": 40, "y": 40})
    expect(page.locator("#lane .said")).to_contain_text(re.compile(r"\d\d:\d\d:\d\d · [\d:]+ min ago"))
    places = page.locator(".u-cursor-x").evaluate_all(
        "all => all.map(line => line.getBoundingClientRect().x - line.parentElement.getBoundingClientRect().x)"
    )
    assert len(places) >= 9
    assert max(places) - min(places) <= 2, places  # columns differ by a pixel
    page.mouse.move(5, 5)
    expect(page.locator("#lane .said")).to_be_hidden()


def test_charts_have_a_text_alternative_and_nothing_moves_by_itself(page: Page) -> None:
    page.emulate_media(reduced_motion="reduce")
    charts = page.locator("#charts [role=img]")
    expect(charts).not_to_have_count(0)
    for n in range(charts.count()):
        expect(charts.nth(n)).to_have_attribute("aria-label", re.compile("Now: .*at most"), timeout=20_000)
    assert page.evaluate("document.getAnimations().length") == 0


def test_a_phone_has_its_navigation_at_the_bottom(page: Page) -> None:
    page.set_viewport_size(PHONE)
    bar = page.locator("nav").bounding_box()
    assert bar is not None
    assert abs(bar["y"] + bar["height"] - PHONE["height"]) < 1
    expect(page.get_by_role("link", name="Admin")).to_be_hidden()
    page.get_by_role("button", name="More").press("Enter")
    expect(page.get_by_role("link", name="Admin")).to_be_visible()
    expect(page.get_by_role("button", name="Log out")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("link", name="Admin")).to_be_hidden()
    page.get_by_role("button", name="More").press("Enter")
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_title("Log in - AICleaner Performance")


def test_login_and_error_pages_say_nothing_in_the_console(
    browser: Browser, product: Product, problems: list[str]
) -> None:
    context = browser.new_context(viewport=PHONE)
    page = context.new_page()
    watch(page, product, problems)
    page.goto(f"{product.web_url}/login/")
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    context.close()
    assert not problems


@pytest.mark.parametrize("path", ["/", "/benchmarks/", "/tuning/profiles/"])
def test_the_link_of_the_page_is_in_sight_on_a_phone(page: Page, product: Product, path: str) -> None:
    page.set_viewport_size(PHONE)
    page.goto(product.web_url + path)
    page.wait_for_function(
        """() => {
            const link = document.querySelector("nav [aria-current]").getBoundingClientRect();
            const links = document.querySelector("nav .links").getBoundingClientRect();
            return link.left >= links.left - 1 && link.right <= links.right + 1;
        }"""
    )
