"""What leaves the house: names, units, distributions, and a receiver of OTLP that speaks the real protocol."""

import json
import re
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import redis
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import Settings

from inference.gateway.stats import BOUNDS_S, MAX_MODELS, Histograms, Stats
from monitoring import tasks
from monitoring.alerts.series import split_series
from monitoring.collector import LAST_KEY, Sampler
from monitoring.exports import otlp, selectors
from monitoring.exports.families import Distribution, Family, families_of, family_of
from monitoring.exports.prometheus import prometheus_text
from monitoring.readers.base import Roots
from monitoring.readers.engine import values_of
from monitoring.readers.gateway import KEY as GATEWAY_KEY
from monitoring.readers.gateway import speeds_of, tagged
from tests.monitoring.replay import Replay
from tests.monitoring.test_nvidia import add_card, driver

SAMPLE = {
    "host": "box",
    "v": {
        "cpu_percent": 50.0,
        "gateway_ttft_p95_ms": 250.0,
        "cpu_frequency_mhz": 3000.0,
        "gpu_power_w{gpu=0}": 120.0,
        "gpu_energy_j{gpu=0}": 5000.0,
        "gpu_util_percent{gpu=0}": None,
        "network_receive_bytes_per_s{interface=eth0}": 10.0,
        "memory_total_bytes": 1000.0,
        "gateway_cache_saved_s_total": 7.5,
        "load1": float("nan"),
    },
}


def gateway() -> dict[str, Any]:
    stats = Stats(0.0)
    record = {
        "error": "",
        "cache": "bypass",
        "output_tokens": 5,
        "prompt_tokens": 1,
        "ttft_ms": 15.0,
        "eval_ms": 50.0,
    }
    stats.finished({**record, "model": 'a"b', "total_ms": 100.0}, 5, 1.0)
    stats.finished({**record, "model": 'a"b', "total_ms": 100_000.0}, 5, 1.0)
    return stats.snapshot(2.0)


def families() -> list[Family]:
    return families_of(SAMPLE, gateway(), {("critical", "firing"): 2})


def test_names_and_values_are_in_base_units_and_the_unknown_is_left_out() -> None:
    text = prometheus_text(families()).decode()
    found = {
        (sample.name, sample.labels.get("gpu", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["aicleaner_cpu_ratio", ""] == 0.5
    assert found["aicleaner_gateway_ttft_p95_seconds", ""] == 0.25
    assert found["aicleaner_cpu_frequency_hertz", ""] == 3e9
    assert found["aicleaner_gpu_power_watts", "0"] == 120
    assert found["aicleaner_gpu_energy_joules_total", "0"] == 5000
    assert found["aicleaner_network_receive_bytes_per_second", ""] == 10
    assert found["aicleaner_memory_total_bytes", ""] == 1000
    assert found["aicleaner_gateway_cache_saved_seconds_total", ""] == 7.5
    assert found["aicleaner_gateway_requests_total", ""] == 2
    assert found["aicleaner_alerts_open", ""] == 2
    assert not [name for name, _ in found if "load1" in name or "gpu_util" in name]


def test_a_histogram_adds_up_for_prometheus() -> None:
    text = prometheus_text(families()).decode()
    (family,) = [
        each for each in text_string_to_metric_families(text) if each.name.startswith("gen_ai_client")
    ]
    buckets = [each for each in family.samples if each.name.endswith("_bucket")]
    assert [each.labels["gen_ai_request_model"] for each in buckets] == ['a"b'] * (len(BOUNDS_S) + 1)
    assert all(a.value <= b.value for a, b in pairwise(buckets))
    assert (buckets[-2].value, buckets[-1].value) == (1, 2)  # 100 s is above all bounds
    assert next(each.value for each in family.samples if each.name.endswith("_sum")) == pytest.approx(100.1)


@given(st.lists(st.floats(0, 1e7), max_size=50))
def test_each_value_is_in_one_bucket(times_ms: list[float]) -> None:
    histograms = Histograms()
    for each in times_ms:
        histograms.add("m", each)
    counts, total = histograms.as_json().get("m", ([0], 0.0))
    assert sum(counts) == len(times_ms)
    assert total == pytest.approx(sum(times_ms) / 1000)
    for bound, n in zip(BOUNDS_S, range(len(counts) - 1), strict=False):
        assert sum(counts[: n + 1]) == sum(each / 1000 <= bound for each in times_ms)


def test_names_that_clients_invent_make_no_more_histograms_than_there_may_be() -> None:
    histograms = Histograms()
    for number in range(100):
        histograms.add(f"m{number}", 1.0)
    assert len(histograms.as_json()) == MAX_MODELS + 1
    assert sum(histograms.as_json()["others"][0]) == 100 - MAX_MODELS


class Receiver:
    """An OTLP endpoint; `status`: what it answers."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append((self.path, dict(self.headers), body))
                self.send_response(outer.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    found = Receiver()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=secret-token")
    otlp._exporter.cache_clear()
    yield found
    otlp._exporter().shutdown()
    otlp._exporter.cache_clear()
    found.server.shutdown()
    found.server.server_close()


def test_otlp_has_the_conventional_names(receiver: Receiver) -> None:
    assert otlp.export(families(), 1_800_000_000_000_000_000)
    ((path, headers, body),) = receiver.requests
    assert path == "/v1/metrics"
    assert {name.lower(): value for name, value in headers.items()}["authorization"] == "secret-token"
    request = ExportMetricsServiceRequest()
    request.ParseFromString(_unzipped(headers, body))
    (resource,) = request.resource_metrics
    attributes = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert (attributes["service.name"], attributes["host.name"]) == ("aicleaner-performance", "box")
    metrics = {each.name: each for each in resource.scope_metrics[0].metrics}
    assert metrics["system.cpu.utilization"].gauge.data_points[0].as_double == 0.5
    assert metrics["hw.power"].unit == "W"
    energy = metrics["hw.energy"].sum
    assert energy.is_monotonic
    assert energy.data_points[0].as_double == 5000
    (point,) = metrics["gen_ai.client.operation.duration"].histogram.data_points
    assert (point.count, list(point.explicit_bounds)) == (2, list(BOUNDS_S))
    assert len(point.bucket_counts) == len(BOUNDS_S) + 1
    assert {each.key for each in point.attributes} == {"host", "gen_ai.request.model"}


def _unzipped(headers: dict[str, str], body: bytes) -> bytes:
    import gzip

    return gzip.decompress(body) if headers.get("Content-Encoding") == "gzip" else body


def test_a_receiver_that_refuses_is_said_and_nothing_raises(
    receiver: Receiver, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.status = 400
    settings.OTLP_ENABLED = True
    monkeypatch.setattr(tasks, "current_families", families)
    tasks.export_otlp()
    assert "did not take the metrics" in caplog.text
    assert "secret-token" not in caplog.text
    settings.OTLP_ENABLED = False
    tasks.export_otlp()
    assert len(receiver.requests) == 1


@pytest.mark.django_db
def test_without_a_sample_there_is_nothing_to_export(valkey_url: str) -> None:
    with redis.from_url(valkey_url) as valkey:
        valkey.delete(LAST_KEY)
    assert selectors.current_families() is None


def test_distributions_have_a_count_more_than_bounds() -> None:
    for family in families():
        for point in family.points:
            if isinstance(point.value, Distribution):
                assert len(point.value.counts) == len(point.value.bounds) + 1


@pytest.mark.parametrize(
    ("metric", "name", "otel"),
    [
        ("disk_used_percent", "aicleaner_disk_used_ratio", "system.filesystem.utilization"),
        ("collector_samples_lost_total", "aicleaner_collector_samples_lost_total", None),
        ("load1", "aicleaner_load1", "aicleaner.load1"),
    ],
)
def test_a_metric_has_one_name_each(metric: str, name: str, otel: str | None) -> None:
    family = family_of(metric)
    assert family.name == name
    assert otel is None or family.otel == otel
    assert family.help.endswith(".")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("m", "m:latest"),
        ("m:7b", "m:7b"),
        ("hf.co/a/m", "hf.co/a/m:latest"),
        ("box:5000/m", "box:5000/m:latest"),
    ],
)
def test_a_model_s_speed_has_the_name_that_the_engine_lists(asked: str, name: str) -> None:
    assert tagged(asked) == name
    speeds = speeds_of({asked: {"tokens_per_s": 50.0, "prompt_tokens": None}})
    assert speeds == {
        f"model_decode_tokens_per_s{{model={name}}}": 50.0,
        f"model_prompt_tokens{{model={name}}}": None,
    }


def test_the_grafana_dashboard_asks_for_names_that_are_exported(
    admin_client: Client, tmp_path: Path, valkey_url: str
) -> None:
    """GPU names come from a recorded card, those of a model from the readers, the others from this machine and an engine that is
    away."""
    with redis.from_url(valkey_url) as valkey:
        valkey.set(GATEWAY_KEY, json.dumps({"engine": {"url": "http://127.0.0.1:1", "kind": "embedded"}}))
        sampler = Sampler("box", Roots(valkey_url=valkey_url))
        sampler.wait_for_first(10)
        sample = sampler.sample(time.time(), time.monotonic())
        sampler.close()
        valkey.delete(GATEWAY_KEY)
    add_card(tmp_path)
    names = [*sample["v"], *driver(tmp_path, Replay("rtx-3080")).read(100.0).values]
    names += [*values_of([defaultdict(lambda: None, name="m")]), *speeds_of({"m": defaultdict(lambda: None)})]
    known = {family_of(split_series(name)[0]).name for name in names} | {each.name for each in families()}
    answer = admin_client.get("/metrics/grafana.json")
    assert answer["Content-Disposition"].startswith("attachment")
    queries = [target["expr"] for panel in answer.json()["panels"] for target in panel["targets"]]
    asked = {
        name.removesuffix("_bucket")
        for query in queries
        for name in re.findall(r"(?:aicleaner|gen_ai)_\w+(?={)", query)
    }
    assert len(asked) > 20
    assert asked <= known
    assert all('{host=~"$host"}' in query for query in queries)
