"""What the default rules say of a card and of a model that leaves it."""

from collections.abc import Iterator
from typing import Any

import pytest

from monitoring.alerts import services
from monitoring.alerts.recording import bump_revision
from monitoring.derived import LeftToCpu
from monitoring.models import Alert, Rule
from tests.monitoring.alerting import Bench, TestChannel, only_channel

pytestmark = pytest.mark.django_db(transaction=True)
SLOWDOWN, HEAT = "gpu_held_hardware_slowdown_percent{gpu=0}", "gpu_held_software_thermal_percent{gpu=0}"
CAP, SPILLED = "gpu_held_power_cap_percent{gpu=0}", "model_spilled_percent{model=a:7b}"


@pytest.fixture
def bench() -> Iterator[Bench]:
    services.keep_default_rules()
    with only_channel(TestChannel()):
        yield Bench()


def seconds(bench: Bench, n: int, **values: float) -> None:
    bench.heat(*[None] * n, **values)


def test_a_card_that_its_hardware_slows_is_an_alert_within_seconds(bench: Bench) -> None:
    seconds(bench, 60, **{SLOWDOWN: 0.0})
    seconds(bench, 5, **{SLOWDOWN: 100.0})
    assert not Alert.objects.exists()
    seconds(bench, 1, **{SLOWDOWN: 100.0})
    alert = Alert.objects.get()
    assert (alert.rule_name, alert.severity_name) == ("GPU slowed by its hardware", "warning")
    assert alert.labels["gpu"] == "0"
    seconds(bench, 30, **{SLOWDOWN: 100.0})
    alert.refresh_from_db()
    assert alert.severity_name == "critical"
    seconds(bench, 122, **{SLOWDOWN: 0.0})
    alert.refresh_from_db()
    assert alert.resolved_at is not None


def test_heat_has_to_last_and_a_power_cap_is_no_alert(bench: Bench) -> None:
    seconds(bench, 300, **{HEAT: 0.0, CAP: 100.0})
    seconds(bench, 29, **{HEAT: 100.0, CAP: 100.0})
    seconds(bench, 400, **{HEAT: 0.0, CAP: 100.0})
    assert not Alert.objects.exists()
    seconds(bench, 120, **{HEAT: 100.0, CAP: 100.0})
    assert Alert.objects.get().rule_name == "GPU slowed by heat"


def test_a_model_that_leaves_the_card_is_an_alert_until_it_is_back(bench: Bench) -> None:
    seconds(bench, 10, **{SPILLED: 0.0})
    seconds(bench, 31, **{SPILLED: 30.0})
    alert = Alert.objects.get()
    assert (alert.rule_name, alert.labels["model"]) == ("Model spilled", "a:7b")
    seconds(bench, 10)  # unloaded: nobody knows
    alert.refresh_from_db()
    assert alert.resolved_at is None
    seconds(bench, 40, **{SPILLED: 0.0})
    alert.refresh_from_db()
    assert alert.resolved_at is not None


def test_a_model_that_is_loaded_with_more_of_it_on_the_cpu_than_before_is_an_alert(bench: Bench) -> None:
    left, state = LeftToCpu(), dict[str, Any](engine={"up": True}, gpus=[{}])

    def live(n: int, share: float | None) -> None:
        for _ in range(n):
            models = [] if share is None else [{"name": "a:7b", "gpu_share": share}]
            bench.heat(None, **left.of(bench.now, {**state, "models": models}))

    live(45, 0.7)
    assert [each.rule_name for each in Alert.objects.all()] == ["Model spilled"]
    live(45, None)  # its next load takes long
    live(20, 0.4)
    more = Alert.objects.exclude(rule_name="Model spilled").get()
    assert (more.rule_name, more.labels["model"]) == ("More of a model on the CPU", "a:7b")
    bench.now += 600
    live(130, 0.4)
    more.refresh_from_db()
    assert more.resolved_at is not None
    live(1, None)
    bench.now += 590
    live(1, None)
    assert Alert.objects.get(resolved_at=None).rule_name == "Model spilled"  # unloaded: it may come back
    live(60, None)
    assert not Alert.objects.filter(resolved_at=None).exists()


def test_a_model_that_is_loaded_on_the_cpu_from_the_start_is_none(bench: Bench) -> None:
    seconds(bench, 200, **{"model_cpu_share_percent{model=a:7b}": 100.0})
    assert not Alert.objects.exists()


def test_a_default_rule_that_looks_at_something_else_now_ends_what_it_no_longer_covers(bench: Bench) -> None:
    before = {"series": "model_cpu_share_percent", "kind": "rate", "window_s": 60, "per_s": 60}
    share = "model_cpu_share_percent{model=a:7b}"
    seconds(bench, 1, **{share: 30.0})  # a start sets default rules anew
    Rule.objects.filter(key="model_share_rising").update(**before)
    bump_revision()
    seconds(bench, 60, **{share: 30.0})
    seconds(bench, 40, **{share: 60.0})
    assert Alert.objects.get().is_open
    services.keep_default_rules()  # as at the start of the next version
    assert Alert.objects.get().resolved_at is not None
    bench.restart()
    seconds(bench, 20, **{share: 60.0})
    assert Alert.objects.count() == 1
