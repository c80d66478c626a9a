"""Alerts of the running product while its processes are killed or stand still."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from tests.product import BASE_DIR, Product, wait_for

SET_RULE = """
from django.utils import timezone
from monitoring.alerts.services import save_rule
from monitoring.models import Rule
rule = Rule.objects.get(key="memory")
rule.fire_at, rule.clear_at, rule.for_s, rule.window_s, rule.keep_firing_for_s, rule.cooldown_s = {values}
save_rule(rule, "admin", timezone.now())
"""


@pytest.fixture(scope="module")
def product() -> Iterator[Product]:
    with Product(AICLEANER_ADMIN_PASSWORD="only-for-this-test") as running:
        running.wait_until_healthy()
        yield running


def set_memory_rule(product: Product, *values: float) -> None:
    command = [sys.executable, "manage.py", "shell", "-v", "0", "-c", SET_RULE.format(values=values)]
    subprocess.run(command, cwd=BASE_DIR, env=product.environment, check=True)


def rows(product: Product, query: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(f"file:{product.data_dir / 'db.sqlite3'}?mode=ro", uri=True) as connection:
        return connection.execute(query).fetchall()


def lines(product: Product, event: str, rule: str) -> int:
    log = product.data_dir / "logs" / "alerts.log"
    return log.read_text().count(f" {event} {rule} on ") if log.exists() else 0


def kill(product: Product, name: str) -> None:
    old = product.pid(name)
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: product.pid(name) != old, f"{name} is started again", 30)


@pytest.mark.timeout(400)
def test_no_kill_costs_an_alert_or_a_notice_or_says_one_twice(product: Product) -> None:
    wait_for(
        lambda: rows(product, "SELECT 1 FROM monitoring_rule WHERE key = 'memory'"), "default rules are there"
    )
    # Pending, then the collector dies: the one that is started goes on with it.
    set_memory_rule(product, 1, 0.5, 6, 2, 0, 0)
    pending = "SELECT 1 FROM monitoring_rulestate WHERE json_extract(memory, '$.state') = 'pending'"
    wait_for(lambda: rows(product, pending), "the rule is pending")
    kill(product, "collector")
    wait_for(
        lambda: rows(product, "SELECT 1 FROM monitoring_alert WHERE rule_name = 'Memory'"), "it has fired"
    )
    # The worker dies as the notice is written; another one says it.
    kill(product, "worker")
    wait_for(lambda: lines(product, "fired", "Memory"), "the log has the notice", 120)
    # Nobody who could tell it is there when it resolves.
    os.kill(product.pid("worker"), signal.SIGKILL)
    set_memory_rule(product, 99.9, 99.8, 0, 2, 0, 0)
    kill(product, "collector")
    wait_for(lambda: lines(product, "resolved", "Memory"), "the log has the end", 120)
    product.wait_until_healthy()
    alerts = rows(product, "SELECT id, resolved_at FROM monitoring_alert WHERE rule_name = 'Memory'")
    assert len(alerts) == 1
    assert (lines(product, "fired", "Memory"), lines(product, "resolved", "Memory")) == (1, 1)
    unsent = "SELECT key, status FROM monitoring_delivery WHERE status NOT IN ('sent', 'folded')"
    assert rows(product, unsent) == []


@pytest.mark.timeout(400)
def test_a_collector_that_stands_still_is_a_silent_host(product: Product) -> None:
    collector = psutil.Process(product.pid("collector"))
    collector.suspend()
    try:
        wait_for(lambda: lines(product, "fired", "Host silent"), "the silence is told", 150)
    finally:
        collector.resume()
    wait_for(lambda: lines(product, "resolved", "Host silent"), "its end is told", 120)
