"""The whole product in a real Chromium."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.product import BASE_DIR, Product, wait_for

# The shell draws no window: a quarter less CPU for the same pages.
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
ARGUMENTS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == item.session.path / "tests" / "browser":
            item.add_marker("browser")
            if CHROMIUM is None:
                item.add_marker(
                    pytest.mark.skip(reason="no Chromium on this machine: apt install chromium, then again")
                )


SWITCH_OFF = """
from django.utils import timezone
from monitoring.alerts.services import save_rule
from monitoring.models import Rule
for rule in Rule.objects.exclude(key="memory"):
    rule.enabled = False
    save_rule(rule, "admin", timezone.now())
    print("off")
"""


def switch_off_rules(product: Product) -> None:
    """A machine that has other work, a part that a test holds up, an engine that a test kills: their rules fire and take the
    strip from the alert that another test is about."""
    command = [sys.executable, "manage.py", "shell", "-v", "0", "-c", SWITCH_OFF]

    def tried() -> bool:
        done = subprocess.run(
            command, cwd=BASE_DIR, env=product.environment, check=True, capture_output=True, text=True
        )
        return "off" in done.stdout

    wait_for(tried, "the default rules are there and off")


@pytest.fixture(scope="session")
def product() -> Iterator[Product]:
    # Playwright's loop runs in this process; Django must not take it for an async page.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    with Product(AICLEANER_ADMIN_PASSWORD="only-for-this-test") as running:
        running.wait_until_healthy()
        switch_off_rules(running)
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def problems() -> list[str]:
    """What the console said and what was asked of other places; a test that provokes some of it clears the list."""
    return []


def watch(page: Page, product: Product, problems: list[str]) -> None:
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "console",
        lambda message: problems.append(message.text) if message.type in ("error", "warning") else None,
    )
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((product.web_url, "data:", f"blob:{product.web_url}"))
            else problems.append(f"asked of {request.url}")
        ),
    )


def log_in(page: Page, product: Product) -> None:
    page.goto(f"{product.web_url}/login/")
    page.fill("#id_username", "admin")
    page.fill("#id_password", "only-for-this-test")
    page.click("button[type=submit]")
    page.wait_for_selector(".kpi")


@pytest.fixture
def page(browser: Browser, product: Product, problems: list[str]) -> Iterator[Page]:
    """Logged in, on the live page; an error or a warning in the browser's console fails the test, and so does any
    request that leaves the console."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    page = context.new_page()
    watch(page, product, problems)
    log_in(page, product)
    yield page
    context.close()
    assert not problems


@pytest.fixture
def phone(browser: Browser, product: Product) -> Iterator[Page]:
    """A second browser, a phone, logged in, on the list of alerts."""
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(f"{product.web_url}/login/?next=/alerts/")
    page.fill("#id_username", "admin")
    page.fill("#id_password", "only-for-this-test")
    page.click("button[type=submit]")
    page.wait_for_selector("#alerts")
    yield page
    context.close()
