"""Look back in a real browser: zoom, move, compare, export, reopen the link, at a desk and on a phone."""

import csv
import io
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Locator, Page, ViewportSize, expect

from tests.browser.conftest import log_in, watch
from tests.product import BASE_DIR, Product

PHONE: ViewportSize = {"width": 360, "height": 740}
# A month of another machine, and what happened there; written by a process of its own, as the product's settings want.
FILL = """
import django, time; django.setup()
from tests.bench.month import generate, store
from monitoring.services import record_event
names = ["cpu_percent", "memory_used_bytes", "disk_read_bytes_per_s{device=sda}", "disk_read_bytes_per_s{device=sdb}", "load1"]
now = int(time.time())
store("attic", generate(names, now))
for ago in (600, 1800, 86400 + 600):
    record_event(host="attic", at=now - ago, kind="model", text=f"m loaded {ago} s ago")
"""
ATTIC = "host=attic&series=cpu_percent&series=memory_used_bytes&series=disk_read_bytes_per_s"


@pytest.fixture(scope="module")
def attic(product: Product) -> str:
    """The host that has a month of samples."""
    subprocess.run([sys.executable, "-c", FILL], cwd=BASE_DIR, env=product.environment, check=True)
    return "attic"


def look(page: Page, product: Product, query: str) -> None:
    page.goto(f"{product.web_url}/history/?{query}")
    settled(page)


def settled(page: Page) -> None:
    """The samples of what the address says are drawn."""
    page.wait_for_function(
        """() => document.getElementById('shown')?.getAttribute('aria-busy') === 'false'
            && document.querySelector('.plot .main-svg, #nothing:not([hidden])')"""
    )


def asked(page: Page) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def seen(page: Page) -> dict[str, Any]:
    """What a person sees of a view, the legends' values included; and the ranges of the axes."""
    return dict(
        page.evaluate(
            """() => {
                const each = (selector, tell) => [...document.querySelectorAll(selector)].map(tell);
                const text = node => node.textContent;
                return { titles: each('#charts h2', text), legends: each('.legend', text), rows: each('#summary tbody tr', text),
                    axes: each('.plot', plot => [plot.layout.xaxis.range, plot.layout.yaxis.range]),
                    lines: each('.plot', plot => plot.data.map(({ name, line, y }) => [name, line.dash, y.length])),
                    resolution: document.getElementById('resolution').textContent,
                    from: document.getElementById('id_from').value, to: document.getElementById('id_to').value }; }"""
        )
    )


def window_of(page: Page) -> tuple[float, float]:
    start, end = seen(page)["axes"][0][0]
    return start, end


def drag(page: Page, surface: Locator, begin: float, end: float, *, shift: bool = False) -> None:
    """From one share of the surface's width to another, and wait for what that asks for."""
    box = surface.bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    before = page.url
    if shift:
        page.keyboard.down("Shift")
    page.mouse.move(box["x"] + box["width"] * begin, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * (begin + end) / 2, y)
    page.mouse.move(box["x"] + box["width"] * end, y)
    page.mouse.up()
    page.mouse.move(5, 5)
    if shift:
        page.keyboard.up("Shift")
    page.wait_for_function("before => location.href !== before", arg=before)
    settled(page)


def test_the_page_begins_with_the_last_hour_of_this_machine(page: Page, product: Product) -> None:
    page.get_by_role("link", name="History").click()
    expect(page.locator("h1")).to_have_text("History")
    settled(page)
    titles = seen(page)["titles"]
    assert titles[:2] == ["CPU%", "Memory used%"]
    assert "Tokenstokens/s" in titles
    expect(page.locator("[data-range='1h']")).to_have_attribute("aria-current", "true")
    expect(page.locator("#resolution")).to_contain_text("A point is 6 s of 1 s samples.")
    start, end = window_of(page)
    assert end - start == 3600
    assert abs(end - time.time()) < 60
    scripts = page.evaluate(
        """performance.getEntriesByType('resource').filter(each => each.name.endsWith('.js'))
            .map(each => each.decodedBodySize).reduce((a, b) => a + b)"""
    )
    assert 1_000_000 < scripts <= 1_300_000


def test_zoom_move_compare_and_back_each_show_what_the_address_says(
    page: Page, product: Product, attic: str
) -> None:
    look(page, product, f"range=24h&{ATTIC}")
    assert [title[:-1] for title in seen(page)["titles"]] == ["CPU", "Memory", "Disk trafficB/"]
    expect(page.locator("#resolution")).to_contain_text("A point is 2 min, from means of 1 min.")
    day = window_of(page)
    surface = page.locator(".surface").first

    drag(page, surface, 0.4, 0.5)  # zoom: finer samples are fetched
    zoomed = window_of(page)
    width = (surface.bounding_box() or {"width": 0})["width"]
    expected = 0.1 * width / (width - 74) * 86400
    assert abs((zoomed[1] - zoomed[0]) - expected) < 300
    assert day[0] < zoomed[0] < zoomed[1] < day[1]
    expect(page.locator("#resolution")).to_contain_text(re.compile(r"means? of 10 s"))
    assert all(axes[0] == list(zoomed) for axes in seen(page)["axes"])
    assert "range" not in asked(page)
    shown_zoomed, url_zoomed = seen(page), page.url

    drag(page, surface, 0.6, 0.4, shift=True)  # move to later
    moved = window_of(page)
    assert moved[0] > zoomed[0]
    assert abs((moved[1] - moved[0]) - (zoomed[1] - zoomed[0])) <= 1

    page.select_option("#compare", "day")
    expect(page.locator("#resolution")).to_contain_text("Dashed: 24 h earlier.")
    settled(page)
    shown = seen(page)
    assert ["busy, 24 h earlier", "4px,3px"] in [line[:2] for line in shown["lines"][0]]
    expect(page.locator("th.compared").first).to_be_visible()
    assert asked(page)["compare"] == ["day"]

    for _ in range(2):
        page.go_back()
    expect(page).to_have_url(url_zoomed)
    settled(page)
    assert seen(page) == shown_zoomed
    page.go_back()
    expect(page.locator("[data-range='24h']")).to_have_attribute("aria-current", "true")
    page.go_forward()
    page.go_forward()
    page.go_forward()
    expect(page.locator("#compare")).to_have_value("day")
    settled(page)
    assert seen(page) == shown


def test_a_copied_link_shows_the_same_in_another_browser(
    page: Page, browser: Browser, product: Product, attic: str
) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    look(page, product, f"range=6h&{ATTIC}&compare=day")
    page.click("#band")
    expect(page.locator("#band")).to_have_attribute("aria-pressed", "false")
    settled(page)
    page.click("#copy-link")
    expect(page.locator("#copy-link")).to_have_text("Copied")
    link = page.evaluate("navigator.clipboard.readText()")
    assert "from=" in link
    assert "range=" not in link
    page.goto(link)
    settled(page)
    shown = seen(page)
    context = browser.new_context(
        viewport={"width": 1440, "height": 1000}, storage_state=page.context.storage_state()
    )
    other = context.new_page()
    other.goto(link)
    settled(other)
    assert seen(other) == shown
    expect(other.locator("#compare")).to_have_value("day")
    context.close()


def test_one_cursor_says_the_values_of_all_charts(page: Page, product: Product, attic: str) -> None:
    look(page, product, f"range=24h&{ATTIC}")
    before = seen(page)["legends"]
    page.locator(".surface").first.hover(position={"x": 400, "y": 60})
    places = page.locator(".surface .at").evaluate_all(
        "all => all.map(each => each.hidden ? null : each.style.left)"
    )
    assert len(places) == 3
    assert len(set(places)) == 1
    assert places[0] is not None
    expect(page.locator("#lane .said")).to_contain_text(re.compile(r"\d\d:\d\d:\d\d"))
    assert all(now != then for now, then in zip(seen(page)["legends"], before, strict=True))
    page.mouse.move(5, 5)
    expect(page.locator("#lane .said")).to_be_hidden()
    lane = page.locator("#lane")
    lane.focus()
    page.keyboard.press("PageUp")
    expect(lane).to_have_attribute("aria-valuetext", re.compile("m loaded 600 s ago"))
    page.keyboard.press("PageUp")
    expect(lane).to_have_attribute("aria-valuetext", re.compile("m loaded 1800 s ago"))
    page.keyboard.press("+")
    page.wait_for_function("() => !location.search.includes('range')")
    settled(page)
    start, end = window_of(page)
    assert abs(end - start - 43_200) <= 1


def test_metrics_devices_and_hosts_are_searched_and_chosen(page: Page, product: Product, attic: str) -> None:
    look(page, product, "range=1h&host=attic&series=cpu_percent")
    page.click("#open-picker")
    expect(page.locator("#picker-search")).to_be_focused()
    page.keyboard.type("disk sdb")
    expect(page.locator("#picker-list .check:visible")).to_have_count(1)
    page.get_by_label("device sdb").check()
    page.fill("#picker-search", "load1")
    page.locator("#picker-list .check:visible input").check()
    page.fill("#picker-search", "nothing is called so")
    expect(page.locator("#picker-note")).to_have_text("Nothing is called that.")
    page.fill("#picker-search", "")
    page.get_by_label(re.compile("^read, all 2")).check()
    expect(page.get_by_label("device sda")).to_be_checked()
    page.get_by_label("device sda").uncheck()
    page.keyboard.press("Escape")
    settled(page)
    assert asked(page)["series"] == ["cpu_percent", "load1", "disk_read_bytes_per_s{device=sdb}"]
    expect(page.locator("#charts .card")).to_have_count(3)
    page.click("#open-picker")
    page.locator("#picker-hosts input:not(:checked)").check()
    page.click("#close-picker")
    expect(page.locator(".legend").first.locator("span")).to_have_count(2)
    expect(page.locator(".legend").first).to_contain_text("busy · attic")
    look(page, product, "range=1h&host=attic&series=")
    page.get_by_role("button", name="Choose metrics").click()
    expect(page.locator("#picker-search")).to_be_focused()


SLOW = """
import django, time; django.setup()
import numpy as np
from tests.monitoring.stored import store_rolled
end, n = int(time.time()) // 300 * 300, 12 * 3600
slow, noise = np.arange(n) >= n - 2400, np.random.default_rng(1).normal(0, 1, n)
columns = {
    "model_decode_tokens_per_s{model=m:latest}": np.where(slow, 41, 50) + noise,
    "gpu_held_power_cap_percent{gpu=0}": np.where(slow, 62, 3) + noise,
    "gpu_power_w{gpu=0}": np.where(slow, 220, 262) + noise,
}
store_rolled("slow-box", end - n, columns)
"""


def test_the_page_says_why_a_model_was_slow_beside_power_and_clocks_on_one_cursor(
    page: Page, product: Product
) -> None:
    subprocess.run([sys.executable, "-c", SLOW], cwd=BASE_DIR, env=product.environment, check=True)
    look(page, product, "range=6h&host=slow-box")
    said = page.locator("#speeds .slower")
    expect(said).to_contain_text("18 % fewer tokens/s: power-capped 62 % of the interval (3.0 % before)")
    expect(said).not_to_contain_text("UTC")  # in the viewer's zone
    assert {"GPU powerW", "GPU clocks held back%", "Speed of each modeltokens/s"} <= set(seen(page)["titles"])
    page.get_by_text("What it rests on").click()
    expect(said).to_contain_text("in the 7 days before")
    expect(said).to_contain_text("need not be the cause")
    page.select_option("#compare", "week")
    expect(page.locator("#speeds")).to_contain_text(
        "in the rest of this time"
    )  # nothing is known of a week ago


def test_files_hold_what_is_shown(page: Page, product: Product, attic: str) -> None:
    look(page, product, f"range=24h&{ATTIC}")

    def fetched(selector: str) -> tuple[str, bytes]:
        page.click("#export summary")
        with page.expect_download() as download:
            page.click(selector)
        if page.locator("#export").get_attribute("open") is not None:
            page.click("#export summary")
        return download.value.suggested_filename, download.value.path().read_bytes()

    name, data = fetched("#export-csv")
    rows = list(csv.reader(io.StringIO(data.decode())))
    assert name.endswith(".csv")
    assert rows[0][2] == "cpu_percent mean on attic"
    assert 1440 <= len(rows) - 1 <= 1442
    name, data = fetched("#export-json")
    found = json.loads(data)
    assert [each["name"] for each in found["series"]][:2] == ["cpu_percent", "memory_used_bytes"]
    name, data = fetched("#export-png")
    assert name.endswith(".png")
    assert data.startswith(b"\x89PNG")
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    assert (width, height) == (2400, 2 * (56 + 36 + 3 * 190))


def test_wrong_times_are_said_at_their_field_and_kept(
    page: Page, product: Product, attic: str, problems: list[str]
) -> None:
    look(page, product, f"range=24h&{ATTIC}")
    page.fill("#id_from", "2026-05-02T10:00")
    page.fill("#id_to", "2026-05-02T09:00")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#error-to")).to_have_text("It ends before it begins: give a later time.")
    expect(page.locator("#id_to")).to_have_value("2026-05-02T09:00")
    expect(page.locator("#charts .card")).to_have_count(3)  # what was there stays
    page.fill("#id_to", "2026-05-02T11:00")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#error-to")).to_be_hidden()
    expect(page.locator(".surface .none:visible")).to_have_count(3)
    assert all("400" in each for each in problems)
    problems.clear()
    page.goto(f"{product.web_url}/history/?from=2026-05-02T10:00&to=2026-05-02T09:00&range=1h")
    expect(page.locator("#trouble")).to_contain_text("either a range or times")


def test_a_server_that_fails_is_said_and_asked_again(
    page: Page, product: Product, attic: str, problems: list[str]
) -> None:
    look(page, product, f"range=24h&{ATTIC}")
    page.route("**/history/data/**", lambda route: route.abort())
    page.click("[data-range='7d']")
    expect(page.locator("#trouble")).to_contain_text("could not be fetched")
    expect(page.locator("#charts .card")).to_have_count(3)
    page.unroute("**/history/data/**")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#trouble")).to_be_hidden()
    expect(page.locator("#resolution")).to_contain_text("from means of 1 min")
    problems.clear()


def test_many_moves_are_one_question(page: Page, product: Product, attic: str) -> None:
    look(page, product, f"range=24h&{ATTIC}")
    questions: list[str] = []
    page.on(
        "request", lambda request: questions.append(request.url) if "/history/data/" in request.url else None
    )
    before = page.url
    page.locator(".surface").first.evaluate(
        """surface => {
            const { x, y } = surface.getBoundingClientRect();
            const turn = { deltaY: -60, ctrlKey: true, clientX: x + 400, clientY: y + 60, bubbles: true, cancelable: true };
            for (let n = 0; n < 8; n += 1) surface.dispatchEvent(new WheelEvent("wheel", turn));
        }"""
    )
    page.wait_for_function("before => location.href !== before", arg=before)
    settled(page)
    assert len(questions) == 1
    start, end = window_of(page)
    assert 300 < end - start < 86_400


@pytest.fixture
def phone(browser: Browser, product: Product, problems: list[str]) -> Iterator[Page]:
    context = browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True)
    page = context.new_page()
    watch(page, product, problems)
    log_in(page, product)
    yield page
    context.close()
    assert not problems


def test_a_phone_zooms_compares_and_reopens_the_link(phone: Page, product: Product, attic: str) -> None:
    look(phone, product, f"range=24h&{ATTIC}")
    assert phone.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    before = window_of(phone)
    url = phone.url
    phone.get_by_role("button", name="Zoom in").tap()
    phone.wait_for_function("before => location.href !== before", arg=url)
    settled(phone)
    start, end = window_of(phone)
    assert abs((end - start) - (before[1] - before[0]) / 2) <= 1
    phone.select_option("#compare", "week")
    expect(phone.locator("#resolution")).to_contain_text("7 days earlier")
    settled(phone)
    shown = seen(phone)
    phone.reload()
    settled(phone)
    assert seen(phone) == shown
    phone.tap("#open-picker")
    expect(phone.locator("#picker")).to_be_visible()
    assert phone.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    phone.tap("#close-picker")
    phone.locator(".surface").first.tap(position={"x": 200, "y": 60})
    expect(phone.locator("#lane .said")).to_be_visible()
    for name in ("From", "Until"):
        box = phone.get_by_label(name, exact=True).bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= PHONE["width"]


def test_the_picture_follows_the_theme_and_nothing_moves_by_itself(
    page: Page, product: Product, attic: str
) -> None:
    page.emulate_media(reduced_motion="reduce")
    look(page, product, f"range=24h&{ATTIC}")
    assert page.evaluate("document.getAnimations().length") == 0
    colour = "document.querySelector('.plot').data.at(-1).line.color"
    first = page.evaluate(colour)
    page.click("#theme")
    page.wait_for_function(f"before => {colour} !== before", arg=first)
    page.click("#theme")
    page.wait_for_function(f"before => {colour} === before", arg=first)
    for surface in page.locator(".surface").all():
        expect(surface).to_have_attribute("aria-label", re.compile("mean .* from .* to "))
