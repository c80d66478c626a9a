"""Plans: what is refused, by the name of which field, and what is kept secret."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from benchmarks.load.plan import Plan, default_warmup, explain


def plan(**changes: Any) -> Plan:
    return Plan(
        **{"url": "http://127.0.0.1:11435", "model": "m", "n_requests": 10, "workload": "mixed", **changes}
    )


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"url": "127.0.0.1:11435"}, "url"),
        ({"url": "http://user:secret@host"}, "url"),
        ({"url": "http://host:99999"}, "url"),
        ({"api": "grpc"}, "api"),
        ({"model": ""}, "model"),
        ({"kind": "stress"}, "kind"),
        ({"concurrency": 0, "kind": "load"}, "concurrency"),
        ({"concurrency": 2}, "concurrency"),
        ({"rate_per_s": 1.0}, "rate_per_s"),
        ({"kind": "load", "concurrency": 3, "rate_per_s": 1.0}, "rate_per_s"),
        ({"kind": "load", "rate_per_s": float("inf")}, "rate_per_s"),
        ({"think_time_s": 1.0}, "think_time_s"),
        ({"kind": "load", "rate_per_s": 1.0, "think_time_s": 1.0}, "think_time_s"),
        ({"n_requests": 0}, "n_requests"),
        ({"n_warmup": 2}, "n_warmup"),
        ({"n_requests": 100, "n_warmup": 9}, "n_warmup"),
        ({"workload": "poems"}, "workload"),
        ({"workload": None}, "prompt_tokens"),
        ({"prompt_tokens": 10, "output_tokens": 10}, "prompt_tokens"),
        ({"workload": None, "prompt_tokens": 10}, "output_tokens"),
        ({"workload": None, "prompt_tokens": 9, "output_tokens": 9, "num_predict": 9}, "num_predict"),
        ({"options": {"num_predict": 9}}, "options"),
        ({"options": {"model": "x"}}, "options"),
        ({"options": {"temperature": float("nan")}}, "options"),
        ({"slo": {"ttft_ms": 0}}, "slo.ttft_ms"),
        ({"slo": {"ttfb_ms": 1}}, "slo.ttfb_ms"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"headers": {"Authorization": "Bearer x"}}, "headers"),
        ({"headers": {"Host": "x"}}, "headers"),
        ({"headers": {"X-A": "a\r\nX-B: b"}}, "headers"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_bad_plan_names_its_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as error:
        plan(**changes)
    assert field in [name for name, _ in explain(error.value)]
    assert "secret" not in str(explain(error.value))


def test_key_goes_to_the_process_and_nowhere_else() -> None:
    made = plan(api_key="sk-secret", headers={"X-Team": "blue"})
    assert Plan.model_validate_json(made.for_process()) == made
    assert "sk-secret" not in repr(made)
    public = made.public()
    assert public.api_key is None
    assert public.headers == {}
    assert "sk-secret" not in public.model_dump_json()


@pytest.mark.parametrize("url", ["http://h:1/", "http://h:1/v1", "http://h:1/v1/", "http://h:1/api"])
def test_url_may_come_with_the_path_of_its_api(url: str) -> None:
    assert plan(url=url).url == "http://h:1"


@given(st.integers(1, 10_000), st.integers(1, 1024))
def test_default_warmup_is_itself_allowed(n_requests: int, concurrency: int) -> None:
    made = plan(kind="throughput", n_requests=n_requests, concurrency=concurrency)
    assert made.warmup == default_warmup(n_requests, concurrency)
    again = plan(kind="throughput", n_requests=n_requests, concurrency=concurrency, n_warmup=made.warmup)
    assert again == made
