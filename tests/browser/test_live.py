"""The live page as a person meets it."""

import re
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.product import Product

NOW = "[...document.querySelectorAll('.chart')].find(c => c.textContent.startsWith('CPU')).querySelector('.u-value').textContent"


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
    page.close()


def test_figures_and_charts_move_each_second(page: Page) -> None:
    expect(page.locator(".uplot")).not_to_have_count(0)
    expect(page.locator("#connection")).to_have_text("live")
    for _ in range(2):
        seen = page.evaluate("performance.now()")
        before = page.locator("#host").inner_html()
        page.wait_for_function("html => document.querySelector('#host').innerHTML !== html", arg=before)
        assert page.evaluate("performance.now()") - seen < 30_000
    expect(page.locator(".kpi").filter(has_text="CPU").locator("strong")).to_have_text(
        re.compile(r"^[\d.,]+ %$")
    )


def test_a_prompt_streams_and_tokens_per_second_rise(page: Page) -> None:
    page.wait_for_function("document.querySelector('#prompt-model').options.length > 0")
    page.click("#prompt-form [type=submit]")
    expect(page.locator("#prompt-figures")).to_contain_text("TTFT", timeout=30_000)
    expect(page.locator("#prompt-answer")).to_contain_text("the dirty dishes in the sink [high]")
    expect(page.locator("#prompt-figures")).to_contain_text("embedded")
    page.wait_for_function(
        "parseFloat(document.querySelector('.kpi small').textContent.replace(/[^0-9]/g, '')) > 20",
        timeout=30_000,
    )
    page.wait_for_function(
        """() => fetch('/live/first/').then(r => r.json()).then(d =>
            Math.max(...d.series.gateway_tokens_per_s.filter(v => v !== null)) > 5)""",
        timeout=30_000,
    )
    expect(page.locator("#models")).to_contain_text("aicleaner-sample")
    expect(page.locator("#lane")).to_contain_text("aicleaner-sample:latest loaded", timeout=20_000)


def test_an_unknown_model_is_an_error_that_is_shown(page: Page) -> None:
    page.evaluate("document.querySelector('#prompt-model').append(new Option('nope', 'nope', true, true))")
    page.click("#prompt-form [type=submit]")
    expect(page.locator("#prompt-figures")).to_contain_text("model 'nope' not found")


def test_a_lost_connection_is_shown_and_found_again(page: Page) -> None:
    page.context.set_offline(True)
    page.evaluate("window.dispatchEvent(new Event('offline'))")
    page.context.set_offline(False)
    expect(page.locator("#connection")).to_have_text("live", timeout=20_000)


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("width", [360, 1440])
def test_nothing_is_wider_than_the_page(page: Page, width: int, theme: str) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    if page.evaluate("document.documentElement.dataset.theme") != theme:
        page.click("#theme")
    expect(page.locator("html")).to_have_attribute("data-theme", theme)
    page.wait_for_function("document.documentElement.scrollWidth <= innerWidth")


def test_every_control_is_reached_by_keyboard_and_charts_speak(page: Page) -> None:
    reached: set[Any] = set()
    for _ in range(25):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
    assert {"theme", "prompt-model", "prompt-text", "Send"} <= reached
    expect(page.locator('[role="img"]').first).to_have_attribute(
        "aria-label", re.compile("Now:"), timeout=20_000
    )


def test_the_page_loads_no_plotly_and_nothing_from_elsewhere(page: Page, product: Product) -> None:
    names = page.evaluate("performance.getEntriesByType('resource').map(e => e.name)")
    assert names
    assert all(name.startswith(product.web_url) for name in names)
    assert not any("plotly" in name.lower() for name in names)


def test_an_hour_of_samples_does_not_grow_the_window(page: Page) -> None:
    sizes = page.evaluate(
        """async () => {
            const { Window } = await import('/static/js/live/window.js');
            const w = new Window();
            w.get('a');
            for (let s = 0; s < 3700; s += 1) w.push({ at: 1e9 + s, v: { a: s } });
            return [w.times.length, w.series.get('a').length, w.series.get('a').at(-1), w.times.at(-1)];
        }"""
    )
    assert sizes == [900, 900, 3699, 1e9 + 3699]


def test_requests_and_events_are_in_the_admin(page: Page, product: Product) -> None:
    for path in ("inference/inferencerequest", "monitoring/event"):
        answer = page.goto(f"{product.web_url}/admin/{path}/")
        assert answer is not None
        assert answer.status == 200
