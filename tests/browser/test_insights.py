"""What the series say reaches an open page by itself, with its evidence, and goes when a person says why."""

import subprocess
import sys

import pytest
from playwright.sync_api import Page, expect

from tests.product import BASE_DIR, Product

# Eight days of a disk that fills; then what beat asks of the worker, a study being due.
FILL = """
import django, time; django.setup()
import numpy as np
from datetime import UTC, datetime
from django.conf import settings
from monitoring.analysis import services
from monitoring.models import Analysis
from tests.monitoring.stored import store_rolled
end, n = int(time.time()) // 300 * 300, 8 * 86_400
rising = 70 + 2.2 * np.arange(n) / 86_400 + np.random.default_rng(1).normal(0, 0.4, n)
store_rolled(settings.HOST_NAME, end - n, {"disk_used_percent{mount=/srv/models/on-a-disk-with-a-long-name}": rising})
Analysis.objects.update(studied_at=None)
services.look_at_series(settings.HOST_NAME, datetime.fromtimestamp(end + 3, UTC))
"""


def test_a_disk_that_fills_is_said_on_the_open_page_and_dismissed(page: Page, product: Product) -> None:
    page.goto(f"{product.web_url}/insights/")
    expect(page.locator("#insights")).to_contain_text("Nothing can be said yet")
    subprocess.run([sys.executable, "-c", FILL], cwd=BASE_DIR, env=product.environment, check=True)
    expect(page.locator("#insights")).to_contain_text("reaches 100 % in", timeout=10_000)
    expect(page.locator("#insights")).to_contain_text("Delete models or old data")

    page.locator(".findings a").first.click()
    expect(page.locator("#plot .main-svg").first).to_be_visible()
    expect(page.locator("#finding")).to_contain_text("Theil-Sen slope")
    page.set_viewport_size({"width": 360, "height": 740})
    page.wait_for_function("document.documentElement.scrollWidth <= innerWidth")
    page.get_by_role("link", name="Make a rule of it").click()
    expect(page.locator("#id_series")).to_have_value(
        "disk_used_percent{mount=/srv/models/on-a-disk-with-a-long-name}"
    )
    expect(page.locator("#id_kind")).to_have_value("forecast")
    page.go_back()

    page.get_by_role("button", name="Dismiss").click()
    expect(page.locator("#dismiss .error")).to_contain_text("Say why")
    page.fill("#id_why", "it is the disk of the archive")
    page.get_by_role("button", name="Dismiss").click()
    expect(page.locator(".findings")).to_have_count(0)
    page.get_by_role("link", name="1 hidden until they change").click()
    expect(page.locator("#insights")).to_contain_text("dismissed by admin: it is the disk of the archive")


@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize(
    "path", ["/insights/", "/insights/?show=dismissed", "/insights/usual/", "/insights/1/"]
)
def test_no_page_is_wider_than_the_window(page: Page, product: Product, width: int, path: str) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(f"{product.web_url}{path}")
    expect(page.locator("h1")).to_be_visible()
    page.wait_for_function("document.documentElement.scrollWidth <= innerWidth")
