"""The live page as a person meets it: filled at once, moving, honest about what is missing."""

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import log_in
from tests.product import Product

SLOW_MS = 40_000


@contextmanager
def frozen(product: Product, name: str) -> Iterator[None]:
    """Process `name` stands still within the block."""
    pid = product.pid(name)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_the_last_minutes_are_there_before_the_first_sample_comes(browser: Browser, product: Product) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.route_web_socket("**/ws/live/", lambda socket: None)  # connected, but nothing is ever said
    log_in(page, product)
    expect(page.locator(".kpi").filter(has_text="CPU").locator("strong")).to_have_text(re.compile(r"\d %$"))
    expect(page.get_by_role("img", name=re.compile(r"^CPU, .*Now: busy [\d.]+ %"))).to_be_attached()
    context.close()


def test_figures_and_charts_move_each_second(page: Page) -> None:
    expect(page.locator(".uplot")).not_to_have_count(0)
    expect(page.locator("#connection")).to_have_text("live")
    for _ in range(3):
        before = page.inner_text("#last")
        expect(page.locator("#last")).not_to_have_text(before)
    page.wait_for_function(
        """() => { const canvas = document.querySelector('.uplot canvas'), seen = canvas.toDataURL();
            return new Promise(done => setTimeout(() => done(canvas.toDataURL() !== seen), 1500)); }"""
    )


def test_a_prompt_streams_and_tokens_per_second_rise_in_two_browsers(
    page: Page, browser: Browser, product: Product
) -> None:
    context = browser.new_context()
    other = context.new_page()
    log_in(other, product)
    expect(page.locator("#prompt-send")).to_be_enabled(timeout=SLOW_MS)
    page.click("#prompt-send")
    expect(page.locator("#prompt-figures")).to_contain_text("embedded", timeout=SLOW_MS)
    expect(page.locator("#prompt-figures")).to_contain_text(
        re.compile(r"TTFT [\d.]+ m?s · \d+ tokens · [\d.,]+ tok/s")
    )
    expect(page.locator("#prompt-answer")).to_contain_text("the dirty dishes in the sink [high]")
    for each in (page, other):
        expect(each.locator(".kpi").first.locator("small")).to_have_text(
            re.compile(r"peak [1-9][\d.,]* in"), timeout=SLOW_MS
        )
        rises = re.compile(r"^Inference, .*generated [^;]*, at most [1-9]")
        expect(each.get_by_role("img", name=rises)).to_be_attached(timeout=SLOW_MS)
        expect(each.locator("#models")).to_contain_text("aicleaner-sample", timeout=SLOW_MS)
        expect(each.locator("#models")).to_contain_text(re.compile(r"CPU · ctx \d+ · unloads in [\d:]+ min"))
    context.close()


def test_an_unknown_model_is_an_error_that_is_shown_and_the_text_stays(page: Page) -> None:
    expect(page.locator("#prompt-send")).to_be_enabled(timeout=SLOW_MS)
    page.fill("#prompt-text", "Room: attic.")
    page.evaluate("document.querySelector('#prompt-model').append(new Option('nope', 'nope', true, true))")
    page.click("#prompt-send")
    expect(page.locator("#prompt-figures")).to_contain_text("model 'nope' not found")
    page.reload()
    expect(page.locator("#prompt-text")).to_have_value("Room: attic.")


def test_a_prompt_can_be_stopped(page: Page, product: Product) -> None:
    expect(page.locator("#prompt-send")).to_be_enabled(timeout=SLOW_MS)
    with frozen(product, "engine"):
        page.focus("#prompt-text")
        page.keyboard.press("Control+Enter")
        expect(page.locator("#prompt-figures")).to_have_text("waiting for the first token")
        expect(page.locator("#prompt-send")).to_be_disabled()
        page.click("#prompt-stop")
        expect(page.locator("#prompt-figures")).to_have_text("stopped after 0 tokens")
    expect(page.locator("#prompt-stop")).to_be_hidden()
    expect(page.locator("#engine")).to_contain_text("Embedded", timeout=SLOW_MS)
    page.click("#prompt-send")
    expect(page.locator("#prompt-figures")).to_contain_text("TTFT", timeout=SLOW_MS)


@pytest.mark.parametrize(("name", "said"), [("engine", "Engine down"), ("gateway", "Gateway down")])
def test_a_part_that_is_down_is_said(page: Page, product: Product, name: str, said: str) -> None:
    expect(page.locator("#connection")).to_have_text("live")
    with frozen(product, name):
        expect(page.locator("#troubles")).to_contain_text(said, timeout=SLOW_MS)
        expect(page).to_have_title(re.compile(rf"^\(!\) {said}"))
        expect(page.locator("#models")).to_contain_text("does not answer")
    expect(page.locator("#troubles")).to_be_empty(timeout=SLOW_MS)
    expect(page).to_have_title("Live - AICleaner Performance")


def test_a_silent_host_is_said_with_the_age_of_its_last_sample_and_leaves_a_gap(
    page: Page, product: Product
) -> None:
    expect(page.locator("#connection")).to_have_text("live")
    with frozen(product, "collector"):
        expect(page.locator("#troubles")).to_contain_text("No samples from", timeout=SLOW_MS)
        expect(page.locator("#connection")).to_have_text(
            re.compile(r"no samples ([6-9]|\d\d) s"), timeout=SLOW_MS
        )
    expect(page.locator("#connection")).to_have_text("live", timeout=SLOW_MS)
    expect(page.locator("#troubles")).to_be_empty()
    gap = page.evaluate(
        """async () => { const { series } = await (await fetch('/live/first/')).json(), cpu = series.cpu_percent;
            const last = cpu.findLastIndex(v => v !== null), hole = cpu.findLastIndex((v, i) => v === null && i < last);
            return cpu.slice(hole - 2, hole + 1); }"""
    )
    assert gap == [None] * 3


def test_a_lost_connection_is_shown_and_found_again(
    page: Page, product: Product, problems: list[str]
) -> None:
    expect(page.locator("#connection")).to_have_text("live")
    os.kill(product.pid("web"), signal.SIGKILL)  # the supervisor starts it again
    expect(page.locator("#connection")).to_have_text(re.compile(r"^lost \d+ s"))
    expect(page.locator("#troubles")).to_contain_text("Connection lost")
    expect(page).to_have_title(re.compile("^.!. Connection lost"))
    expect(page.locator("#connection")).to_have_text("live", timeout=SLOW_MS)
    expect(page.locator("#troubles")).to_be_empty(timeout=SLOW_MS)
    assert all("ERR_CONNECTION" in each or "WebSocket" in each for each in problems), problems
    problems.clear()


def test_who_is_logged_out_elsewhere_is_led_to_the_login(
    page: Page, product: Product, problems: list[str]
) -> None:
    expect(page.locator("#connection")).to_have_text("live")
    page.context.clear_cookies()
    os.kill(product.pid("web"), signal.SIGKILL)
    page.wait_for_url("**/login/?next=*", timeout=SLOW_MS)
    problems.clear()


def test_times_are_in_the_viewers_zone(browser: Browser, product: Product) -> None:
    context = browser.new_context(timezone_id="Asia/Tokyo")
    page = context.new_page()
    log_in(page, product)
    before = datetime.now(ZoneInfo("Asia/Tokyo"))
    expect(page.locator("#last")).to_have_text(re.compile(r"last sample \d\d:\d\d:\d\d"))
    hour = page.inner_text("#last").split()[-1][:2]
    page.goto(f"{product.web_url}/admin/monitoring/event/")
    newest = page.locator("#result_list .field-at").first.inner_text()
    hours = {f"{before:%H}", f"{datetime.now(ZoneInfo('Asia/Tokyo')):%H}"}
    context.close()
    assert hour in hours
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$", newest), newest
    assert abs((datetime.fromisoformat(newest) - before.replace(tzinfo=None)).total_seconds()) < 3600


@pytest.mark.parametrize("width", [360, 390, 768, 1024, 1440])
def test_nothing_is_wider_than_the_page(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    for span in ("60", "900"):
        page.select_option("#span", span)
        page.wait_for_function("document.documentElement.scrollWidth <= innerWidth")
    page.wait_for_function(
        """() => [...document.querySelectorAll('.uplot')].every(plot =>
            plot.getBoundingClientRect().right <= plot.closest('.card').getBoundingClientRect().right)"""
    )
