"""What the default rules say of a card and of a model that leaves it."""

from collections.abc import Iterator

import pytest

from monitoring.alerts import services
from monitoring.models import Alert
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


def test_a_model_of_which_more_runs_on_the_cpu_than_before_is_an_alert(bench: Bench) -> None:
    share = "model_cpu_share_percent{model=a:7b}"
    seconds(bench, 90, **{share: 30.0})
    assert not Alert.objects.exists()
    seconds(bench, 60, **{share: 60.0})
    alert = Alert.objects.get()
    assert (alert.rule_name, alert.labels["model"]) == ("More of a model on the CPU", "a:7b")
    seconds(bench, 260, **{share: 60.0})
    alert.refresh_from_db()
    assert alert.resolved_at is not None


def test_a_model_that_is_loaded_on_the_cpu_from_the_start_is_none(bench: Bench) -> None:
    seconds(bench, 200, **{"model_cpu_share_percent{model=a:7b}": 100.0})
    assert not Alert.objects.exists()
