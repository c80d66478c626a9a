"""`make screenshots`: pictures of the pages for README.md, from a running product with real requests."""

import threading
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.browser.conftest import ARGUMENTS, CHROMIUM
from tests.product import BASE_DIR, Product

FOLDER = BASE_DIR / "docs" / "screenshots"
SECONDS = 150
ROOMS = ("kitchen", "bathroom", "office", "garage")
SEEN = "Seen: dirty dishes in the sink; crumbs on the floor; toys on the carpet."


def ask_now_and_then(product: Product, until: float) -> None:
    """Requests such as a home makes: a few, then none for a while."""
    n = 0
    while time.monotonic() < until:
        body = f'{{"model": "aicleaner-sample", "prompt": "Room: {ROOMS[n % 4]}. {SEEN}"}}'
        with urllib.request.urlopen(f"{product.gateway_url}/api/generate", body.encode()) as answer:
            answer.read()
        n += 1
        time.sleep(0.3 if n % 12 else 6)


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with Product(AICLEANER_HOST_NAME="box-01") as product, sync_playwright() as playwright:
        product.wait_until_healthy()
        asking = threading.Thread(
            target=ask_now_and_then, args=(product, time.monotonic() + SECONDS), daemon=True
        )
        asking.start()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1440, "height": 1000}, color_scheme="dark")
        page.goto(product.login_link())
        page.wait_for_timeout((SECONDS - 30) * 1000)
        page.click("#prompt-form [type=submit]")
        page.wait_for_timeout(2500)
        shoot(page, FOLDER / "live-dark.png")
        page.click("#theme")
        page.wait_for_timeout(1500)
        shoot(page, FOLDER / "live-light.png")
        page.click("#theme")
        page.set_viewport_size({"width": 390, "height": 844})
        page.wait_for_timeout(1500)
        shoot(page, FOLDER / "live-phone.png", whole=False)
        browser.close()


def shoot(page: object, path: Path, *, whole: bool = True) -> None:
    page.screenshot(path=path, full_page=whole)  # type: ignore[attr-defined]
    print(path.relative_to(BASE_DIR))


if __name__ == "__main__":
    main()
