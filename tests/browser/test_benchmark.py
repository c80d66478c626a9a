"""Launch a benchmark from the form and watch it, in two browsers, on the running product."""

import json
import os
import re
import signal
import sqlite3
from collections.abc import Iterator

import psutil
import pytest
from playwright.sync_api import Browser, Page, Route, WebSocketRoute, expect

from tests.product import Product, wait_for

MODEL = "aicleaner-sample:latest"
LONG = {"n_requests": "60", "n_rounds": "40", "num_predict": "48"}
QUICK = {"n_requests": "4", "n_rounds": "2", "num_predict": "8"}


@pytest.fixture
def other(browser: Browser, page: Page) -> Iterator[Page]:
    """A second browser, logged in as the same person."""
    context = browser.new_context(storage_state=page.context.storage_state())
    yield context.new_page()
    context.close()


def start(page: Page, product: Product, **fields: str) -> str:
    """Fill in the form and start; the address of the run's page."""
    page.goto(f"{product.web_url}/benchmarks/new/")
    page.check(f'[name=models][value="{MODEL}"]')
    for name, value in fields.items():
        if name in {"kind", "prompts"}:
            page.check(f"[name={name}][value={value}]")
        else:
            page.fill(f"[name={name}]", value)
    page.click("text=Start the benchmark")
    page.wait_for_url(re.compile(r"/benchmarks/\d+/$"), wait_until="commit")
    return page.url


def newest_state(product: Product) -> str:
    with sqlite3.connect(f"file:{product.data_dir / 'db.sqlite3'}?mode=ro", uri=True) as connection:
        return str(connection.execute("SELECT state FROM benchmarks_run ORDER BY id DESC").fetchone()[0])


def done(page: Page) -> float:
    return float(page.evaluate("document.querySelector('#run progress')?.value ?? 0"))


def cancel(page: Page) -> None:
    page.click("#run button:has-text('Cancel')")
    expect(page.locator("#run .badge").first).to_have_text("cancelled", timeout=20_000)


def test_a_run_is_started_from_the_form_watched_in_two_browsers_and_cancelled(
    page: Page, other: Page, product: Product
) -> None:
    url = start(page, product, **LONG)
    other.goto(f"{product.web_url}/benchmarks/")
    expect(page.locator("#run .badge").first).to_have_text("running", timeout=30_000)
    expect(other.locator("#runs .badge").first).to_have_text("running", timeout=30_000)
    page.wait_for_function("document.querySelector('#run progress')?.value > 20", timeout=60_000)
    other.wait_for_function("document.querySelector('#runs progress')?.value > 0", timeout=60_000)
    before = done(page)
    page.wait_for_function(
        "before => document.querySelector('#run progress').value > before", arg=before, timeout=30_000
    )
    expect(page.locator("[data-show-as=rate]")).to_have_text(re.compile(r"^[\d.,]+ tok/s$"))
    expect(page.locator("[data-show-as=errors]")).to_have_text("0")
    expect(page.locator("[data-show-as=eta]")).to_have_text(re.compile(r"\d+ (s|min)"))
    cancel(page)
    expect(other.locator("#runs .badge").first).to_have_text("cancelled", timeout=20_000)
    expect(page.locator("#run")).to_contain_text("Cancelled by admin")
    expect(page.locator(".figures")).to_contain_text(
        "TTFT, median", timeout=60_000
    )  # what was measured is kept
    other.goto(url)
    expect(other.locator(".figures")).to_contain_text("Output rate", timeout=60_000)


def test_what_happened_before_the_page_was_connected_is_shown(page: Page, product: Product) -> None:
    waiting: list[WebSocketRoute] = []
    page.route_web_socket("**/ws/news/", lambda socket: waiting.append(socket))  # opened, but silent
    start(page, product, **QUICK)
    wait_for(lambda: newest_state(product) == "done", "the run is over", 120)
    expect(page.locator("#run .badge").first).not_to_have_text("done")
    waiting[-1].connect_to_server()
    expect(page.locator("#run .badge").first).to_have_text("done")


def test_what_happened_before_the_last_script_of_the_page_came_is_shown(page: Page, product: Product) -> None:
    held: list[Route] = []
    page.route("**/plotly-basic.min.js", lambda route: held.append(route))
    start(page, product, **QUICK)
    expect(page.locator("#run .badge").first).to_be_visible()
    wait_for(lambda: newest_state(product) == "done", "the run is over", 120)
    held[-1].continue_()
    expect(page.locator("#run .badge").first).to_have_text("done")


def test_a_finished_run_shows_figures_charts_and_where_it_was_measured(page: Page, product: Product) -> None:
    start(page, product, kind="throughput", concurrency="2", slo_total_ms="60000", **QUICK)
    expect(page.locator("#run .badge").first).to_have_text("done", timeout=120_000)
    for text in (
        "TTFT, median",
        "End to end, median",
        "Goodput",
        "SLO attainment",
        "Errors",
        "Schedule lag, p99",
    ):
        expect(page.locator(".figures")).to_contain_text(text)
    expect(page.locator("#charts .js-plotly-plot")).not_to_have_count(0, timeout=20_000)
    expect(page.locator("#charts")).to_contain_text("GPU is not shown: no NVIDIA driver")
    expect(page.locator("#run")).to_contain_text(re.compile(r"digest [0-9a-f]{12}"))
    tip = page.locator(".tip").first
    tip.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".tip-text:popover-open")).to_contain_text("t1")
    page.keyboard.press("Escape")
    expect(page.locator(".tip-text:popover-open")).to_have_count(0)


def test_downloads_baseline_compare_run_again_and_delete(page: Page, product: Product) -> None:
    first = start(page, product, **QUICK)
    expect(page.locator("#run .badge").first).to_have_text("done", timeout=120_000)
    page.click("text=Set as baseline")
    expect(page.locator("h1")).to_contain_text("baseline")
    with page.expect_download() as caught:
        page.click("#run >> text=JSON")
    found = json.loads(caught.value.path().read_text())
    assert found["figures"][MODEL]["ttft_p50_ms"] > 0
    with page.expect_download() as caught:
        page.click("#run >> text=CSV")
    assert len(caught.value.path().read_text().splitlines()) == 1 + 2 * (3 + 4)
    button = page.get_by_role("button", name="TTFT as PNG")
    button.focus()
    with page.expect_download() as caught:
        page.keyboard.press("Enter")
    assert caught.value.suggested_filename == f"benchmark-{found['run']}-ttft.png"
    assert caught.value.path().read_bytes().startswith(b"\x89PNG")
    page.click("text=Run again")
    assert page.input_value("[name=num_predict]") == "8"
    expect(page.locator(f'[name=models][value="{MODEL}"]')).to_be_checked()
    page.click("text=Start the benchmark")
    page.wait_for_url(lambda url: bool(re.search(r"/benchmarks/\d+/$", url)) and url != first)
    expect(page.locator("#run .badge").first).to_have_text("done", timeout=120_000)
    page.click("#run >> text=Compare")
    expect(page.locator(".verdict")).to_contain_text("No difference shown")
    expect(page.locator(".figures")).to_contain_text("TTFT, median", timeout=60_000)
    page.goto(first)
    page.click("text=Delete…")
    page.click("text=Keep it")
    assert page.url == first
    page.click("text=Delete…")
    page.click("button:has-text('Delete')")
    expect(page.locator("main")).to_contain_text("is deleted")


def test_the_estimate_follows_the_form_and_mistakes_keep_what_was_typed(page: Page, product: Product) -> None:
    page.goto(f"{product.web_url}/benchmarks/new/")
    expect(page.locator("#estimate")).to_contain_text("unknown until")
    page.check(f'[name=models][value="{MODEL}"]')
    expect(page.locator("#estimate")).to_contain_text("60 measured")
    page.fill("[name=n_requests]", "20")
    expect(page.locator("#estimate")).to_contain_text("120 measured")
    expect(page.locator("[name=concurrency]")).to_be_hidden()
    page.check("[name=kind][value=load]")
    expect(page.locator("[name=concurrency]")).to_be_visible()
    page.fill("[name=concurrency]", "1000")
    page.fill("[name=slo_ttft_ms]", "123.5")
    page.click("text=Start the benchmark")
    expect(page.locator("#id_concurrency_error")).to_contain_text("less than or equal to 256")
    assert page.input_value("[name=slo_ttft_ms]") == "123.5"
    assert page.input_value("[name=concurrency]") == "1000"
    expect(page.locator(f'[name=models][value="{MODEL}"]')).to_be_checked()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was started: 1 field needs another look")


def test_models_of_another_engine_are_listed_when_it_is_chosen(page: Page, product: Product) -> None:
    page.goto(f"{product.web_url}/benchmarks/new/")
    page.select_option("#id_engine", "ollama")
    expect(page.locator("#models")).to_contain_text("does not answer")
    page.select_option("#id_engine", "embedded")
    expect(page.locator("#models")).to_contain_text(MODEL)
    page.select_option("#id_engine", "cloud")
    expect(page.locator("#id_url")).to_be_visible()
    page.fill("#id_url", f"http://127.0.0.1:{product.engine_port}/v1")
    page.locator("#id_url").blur()
    expect(page.locator("#models")).to_contain_text(MODEL)


def load_processes(product: Product) -> list[psutil.Process]:
    return [each for each in product.processes() if "benchmarks.load" in " ".join(each.cmdline())]


def test_a_killed_worker_leaves_the_run_interrupted_and_its_load_process_dies(
    page: Page, product: Product
) -> None:
    start(page, product, **LONG)
    page.wait_for_function("document.querySelector('#run progress')?.value > 0", timeout=60_000)
    assert load_processes(product)
    old = product.pid("worker")
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: product.pid("worker") != old, "the worker is started again", 30)
    wait_for(lambda: not load_processes(product), "the load process is gone", 10)
    expect(page.locator("#run .badge").first).to_have_text("interrupted", timeout=60_000)
    expect(page.locator("#run")).to_contain_text("The process that ran it is gone")
    start(page, product, **QUICK)  # and the next one runs
    expect(page.locator("#run .badge").first).to_have_text("done", timeout=120_000)


def test_runs_wait_for_each_other_in_order(page: Page, other: Page, product: Product) -> None:
    start(page, product, **LONG)
    expect(page.locator("#run .badge").first).to_have_text("running", timeout=30_000)
    start(other, product, **QUICK)
    expect(other.locator("#run")).to_contain_text("Waits for 1 other run")
    cancel(page)
    expect(other.locator("#run .badge").first).to_have_text("done", timeout=120_000)


def test_the_events_of_the_runs_are_recorded(product: Product) -> None:
    with sqlite3.connect(f"file:{product.data_dir / 'db.sqlite3'}?mode=ro", uri=True) as connection:
        rows = connection.execute("SELECT text FROM monitoring_event WHERE kind = 'benchmark'").fetchall()
    texts = [row[0] for row in rows]
    assert any(re.fullmatch(rf"benchmark \d+ started: latency, {MODEL}", text) for text in texts)
    assert any(re.fullmatch(r"benchmark \d+ cancelled: cancelled by admin", text) for text in texts)


@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize("path", ["", "new/", "compare/"])
def test_no_page_is_wider_than_the_screen(page: Page, product: Product, width: int, path: str) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(f"{product.web_url}/benchmarks/{path}")
    page.wait_for_function("document.documentElement.scrollWidth <= innerWidth")
