"""`make screenshots`: pictures of the pages for README.md, from a running product with real requests."""

import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.browser.conftest import ARGUMENTS, CHROMIUM
from tests.product import BASE_DIR, Product

FOLDER = BASE_DIR / "docs" / "screenshots"
SECONDS = 250  # most of the five minutes that the pictures show
ROOMS = ("kitchen", "bathroom", "office", "garage")
SEEN = "Seen: dirty dishes in the sink; crumbs on the floor; toys on the carpet."


def ask_now_and_then(product: Product, stopped: threading.Event) -> None:
    """Requests such as a home makes: a few, then none for a while."""
    n = 0
    while not stopped.is_set():
        body = f'{{"model": "aicleaner-sample", "prompt": "Room: {ROOMS[n % 4]}. {SEEN}"}}'
        with urllib.request.urlopen(f"{product.gateway_url}/api/generate", body.encode()) as answer:
            answer.read()
        n += 1
        stopped.wait(0.3 if n % 12 else 6)


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with Product(AICLEANER_HOST_NAME="box-01") as product, sync_playwright() as playwright:
        product.wait_until_healthy()
        stopped = threading.Event()
        asking = threading.Thread(target=ask_now_and_then, args=(product, stopped), daemon=True)
        asking.start()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1440, "height": 1000}, color_scheme="dark")
        page.goto(product.login_link())
        page.select_option("#span", "300")
        page.wait_for_timeout(SECONDS * 1000)
        page.click("#prompt-send")
        page.wait_for_timeout(2500)
        shoot(page, FOLDER / "live-dark.png")
        page.click("#theme")
        page.wait_for_timeout(1500)
        shoot(page, FOLDER / "live-light.png")
        page.click("#theme")
        on_a_phone(page, FOLDER / "live-phone.png")
        page.click("#theme")
        variants(page, product)
        page.goto(f"{product.web_url}/requests/figures/")
        page.wait_for_timeout(1500)
        shoot(page, FOLDER / "requests.png", whole=False)
        benchmark(page, product)
        alert(page, product)
        page.goto(f"{product.web_url}/history/?range=15m")
        page.wait_for_selector(".js-plotly-plot .lines", state="attached")
        page.wait_for_timeout(2000)
        shoot(page, FOLDER / "history.png")
        on_a_phone(page, FOLDER / "history-phone.png")
        page.goto(f"{product.web_url}/engines/")
        page.wait_for_timeout(1500)
        shoot(page, FOLDER / "engines.png", whole=False)
        page.goto(f"{product.web_url}/tuning/profiles/")
        page.get_by_role("button", name="Activate").first.click()
        page.wait_for_load_state("networkidle")
        shoot(page, FOLDER / "profiles.png", whole=False)
        browser.close()
        stopped.set()
        asking.join()


def variants(page: Page, product: Product) -> None:
    """Four types of the sample model, measured against it."""
    for level in ("q8_0", "q5_K_M", "q4_K_M", "q3_K_M"):
        command = [sys.executable, "manage.py", "quantize", "aicleaner-sample", level]
        subprocess.run(command, cwd=BASE_DIR, env=product.environment, check=True, capture_output=True)
    page.goto(f"{product.web_url}/models/variants/")
    page.wait_for_selector(".js-plotly-plot .point", state="attached")
    page.wait_for_timeout(1500)
    shoot(page, FOLDER / "variants.png", whole=False)


def benchmark(page: Page, product: Product) -> None:
    page.goto(f"{product.web_url}/benchmarks/new/")
    page.check("[name=models]")
    page.fill("[name=n_requests]", "20")
    page.get_by_role("button", name="Start the benchmark").click()
    page.wait_for_selector("[data-plot]", state="attached", timeout=300_000)
    page.wait_for_timeout(2000)
    shoot(page, FOLDER / "benchmark.png")


def alert(page: Page, product: Product) -> None:
    """A real one: the memory rule asks for less than is in use."""
    page.goto(f"{product.web_url}/alerts/rules/")
    page.get_by_role("link", name="Memory", exact=True).click()
    for name, value in {"fire_at": "2", "clear_at": "1", "for_s": "2", "window_s": "2"}.items():
        page.fill(f"#id_{name}", value)
    page.get_by_role("button", name="Preview").click()
    page.wait_for_selector("#preview .js-plotly-plot", timeout=60_000)
    page.wait_for_timeout(1500)
    shoot(page, FOLDER / "rule.png")
    on_a_phone(page, FOLDER / "rule-phone.png")
    page.get_by_role("button", name="Save the rule").click()
    page.wait_for_url("**/alerts/rules/")
    page.goto(f"{product.web_url}/alerts/")
    page.locator("#alerts td a").first.click(timeout=120_000)
    page.wait_for_timeout(3000)
    shoot(page, FOLDER / "alert.png")
    on_a_phone(page, FOLDER / "alert-phone.png")


def on_a_phone(page: Page, path: Path) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(1500)
    shoot(page, path, whole=False)
    page.set_viewport_size({"width": 1440, "height": 1000})


def shoot(page: Page, path: Path, *, whole: bool = True) -> None:
    page.screenshot(path=path, full_page=whole)
    print(path.relative_to(BASE_DIR))


if __name__ == "__main__":
    main()
