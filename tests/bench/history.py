"""The history page in a browser, on the running product with a month of samples: the first chart, and what it loads."""

import subprocess
import sys
from collections.abc import Iterator

from playwright.sync_api import Page, sync_playwright

from tests.bench import Row, quantile
from tests.browser.conftest import ARGUMENTS, CHROMIUM
from tests.product import BASE_DIR, Product

N_TIMES = 7
FILL = """
import django, time; django.setup()
from tests.bench.month import generate, store
names = ["cpu_percent", "memory_used_percent", "gpu_util_percent{gpu=0}", "gpu_power_w{gpu=0}", "gateway_tokens_per_s"]
store("bench", generate(names + [f"s{n}_percent" for n in range(15)], int(time.time())))
"""
# performance.now() counts from the beginning of the navigation.
WATCH = """new MutationObserver((_, observer) => {
    if (!document.querySelector('.plot .main-svg .lines')) return;
    observer.disconnect();
    requestAnimationFrame(() => setTimeout(() => { window.firstChart = performance.now(); }));
}).observe(document, { childList: true, subtree: true });"""
SCRIPTS = """performance.getEntriesByType('resource').filter(each => each.name.endsWith('.js'))
    .map(each => each.decodedBodySize).reduce((a, b) => a + b)"""


def run() -> Iterator[Row]:
    with Product(AICLEANER_HOST_NAME="bench") as product, sync_playwright() as playwright:
        product.stop()  # its collector writes the same series
        subprocess.run([sys.executable, "-c", FILL], cwd=BASE_DIR, env=product.environment, check=True)
        product.start()
        product.wait_until_healthy()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        page.add_init_script(WATCH)
        page.goto(product.login_link())
        page.wait_for_selector(".kpi")
        yield Row(
            "first chart of a first visit, nothing cached", _first_chart(page, product, "1h"), "ms", 1000
        )
        for range_ in ("1h", "24h", "30d"):
            took = [_first_chart(page, product, range_) for _ in range(N_TIMES)]
            yield Row(f"first chart, {range_}, median", quantile(took, 0.5), "ms", 1000)
        yield Row("JavaScript of the page", page.evaluate(SCRIPTS) / 1e6, "MB", 1.3)
        browser.close()


def _first_chart(page: Page, product: Product, range_: str) -> float:
    page.goto(f"{product.web_url}/history/?range={range_}")
    page.wait_for_function("() => window.firstChart")
    return float(page.evaluate("window.firstChart"))
