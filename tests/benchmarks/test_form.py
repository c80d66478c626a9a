"""The form of a new run: each mistake beside its field, everything typed kept."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from benchmarks.engines import find_engine
from benchmarks.models import Measurement, Run, State
from benchmarks.parameters import Parameters
from inference.models import InferenceRequest
from tests.benchmarks.conftest import MODEL, NOW

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("engines")]

GOOD: dict[str, Any] = {
    "engine": "embedded",
    "models": [MODEL],
    "kind": "throughput",
    "concurrency": "2",
    "prompts": "task_generation",
    "n_requests": "4",
    "n_rounds": "2",
    "n_warmup": "",
    "timeout_s": "30",
    "num_predict": "8",
    "temperature": "0",
    "seed": "1",
    "slo_total_ms": "900.5",
}


@pytest.fixture
def page(client: Client, staff: User) -> Client:
    client.force_login(staff)
    return client


def errors(answer: Any) -> dict[str, str]:
    return {name: " ".join(texts) for name, texts in answer.context["form"].errors.items()}


def test_a_good_form_queues_the_run_it_describes(page: Client, staff: User) -> None:
    answer = page.post("/benchmarks/new/", GOOD)
    run = Run.objects.get()
    assert answer["Location"] == f"/benchmarks/{run.pk}/"
    assert (run.state, run.who, run.user, run.model_names) == (State.QUEUED, "boss", staff, [MODEL])
    parameters = Parameters.model_validate(run.parameters)
    assert (parameters.concurrency, parameters.n_total, parameters.num_predict) == (2, 8, 8)
    assert parameters.slo.total_ms == 900.5
    assert parameters.warmup == 3


def test_a_short_name_means_the_model_that_the_engine_calls_latest(page: Client) -> None:
    page.post("/benchmarks/new/", {**GOOD, "models": "aicleaner-sample, twin"})
    assert Run.objects.get().model_names == [MODEL, "twin:latest"]


@pytest.mark.parametrize(
    ("changes", "field", "word"),
    [
        ({"engine": "other"}, "engine", "Select a valid choice"),
        ({"engine": "ollama"}, "engine", "does not answer"),
        ({"engine": "cloud"}, "url", "address"),
        ({"engine": "cloud", "url": "ftp://x"}, "url", "http://"),
        ({"engine": "cloud", "url": "http://169.254.169.254"}, "url", "link-local"),
        ({"engine": "cloud", "url": "http://127.0.0.1:1"}, "url", "does not answer"),
        (
            {"engine": "cloud", "url": "http://127.0.0.1:1", "key_variable": "sk-live-1"},
            "key_variable",
            "_API_KEY",
        ),
        (
            {"engine": "cloud", "url": "http://127.0.0.1:1", "key_variable": "NO_API_KEY"},
            "key_variable",
            "not set",
        ),
        ({"models": []}, "models", "Choose one model"),
        ({"models": " , "}, "models", "Choose one model"),
        ({"models": ["nope", MODEL]}, "models", "no model nope. It has: aicleaner-sample:latest"),
        ({"models": [f"m{n}" for n in range(9)]}, "models", "At most 8"),
        ({"models": "x" * 201}, "models", "this long"),
        ({"kind": "stress"}, "kind", "Select a valid choice"),
        ({"concurrency": "0"}, "concurrency", "greater than or equal to 1"),
        ({"concurrency": "257"}, "concurrency", "less than or equal to 256"),
        ({"concurrency": ""}, "concurrency", "Give a number"),
        ({"concurrency": "two"}, "concurrency", "whole number"),
        ({"kind": "load", "think_time_s": "-1"}, "think_time_s", "greater"),
        ({"kind": "load", "rate_per_s": "nan"}, "rate_per_s", "number"),
        ({"prompts": "poem"}, "prompts", "Select a valid choice"),
        ({"prompts": "lengths", "output_tokens": "9"}, "prompt_tokens", "Give a length"),
        ({"prompts": "lengths", "prompt_tokens": "9"}, "output_tokens", "Give a length"),
        ({"n_requests": "0"}, "n_requests", "greater"),
        (
            {"n_requests": "1000", "n_rounds": "50", "models": [MODEL, "twin:latest"]},
            "n_requests",
            "more than 50000",
        ),
        ({"n_rounds": "51"}, "n_rounds", "less than or equal to 50"),
        ({"n_warmup": "2"}, "n_warmup", "greater than or equal to 3"),
        ({"n_requests": "100", "n_warmup": "4"}, "n_warmup", "must be 10 or more"),
        ({"timeout_s": "0"}, "timeout_s", "greater"),
        ({"num_predict": "0"}, "num_predict", "greater"),
        ({"num_ctx": "1.5"}, "num_ctx", "whole number"),
        ({"temperature": "3"}, "temperature", "less than or equal to 2"),
        ({"seed": "-1"}, "seed", "greater"),
        ({"slo_ttft_ms": "0"}, "slo_ttft_ms", "greater"),
        ({"slo_total_ms": "soon"}, "slo_total_ms", "number"),
        ({"slo_tpot_ms": "1e12"}, "slo_tpot_ms", "less"),
    ],
)
def test_each_mistake_is_said_beside_its_field_and_nothing_typed_is_lost(
    page: Client, changes: dict[str, Any], field: str, word: str
) -> None:
    answer = page.post("/benchmarks/new/", {**GOOD, **changes})
    assert answer.status_code == 200
    assert word in errors(answer)[field], errors(answer)
    text = answer.content.decode()
    assert f'id="id_{field}_error"' in text
    assert 'value="900.5"' in text or "slo_total_ms" in changes
    assert not Run.objects.exists()
    for value in changes.values():
        if (
            isinstance(value, str)
            and value.strip(" ,")
            and field not in {"engine", "kind", "prompts", "key_variable"}
        ):
            assert f'value="{value}"' in text or f">{value}<" in text or field == "models"


def test_a_key_in_the_wrong_field_is_not_shown_again(page: Client) -> None:
    """Whoever types the key itself into the field for the variable's name must not see it come back."""
    answer = page.post(
        "/benchmarks/new/",
        {**GOOD, "engine": "cloud", "url": "http://127.0.0.1:1", "key_variable": "sk-live-1"},
    )
    assert "sk-live-1" not in answer.content.decode()


def test_no_value_of_a_variable_is_rendered_or_stored(page: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "very-secret")
    url = find_engine("embedded").url
    data = {**GOOD, "engine": "cloud", "url": f"{url}/v1", "key_variable": "SOME_API_KEY"}
    answer = page.post("/benchmarks/new/", data, follow=True)
    assert answer.status_code == 200
    run = Run.objects.get()
    assert run.parameters["key_variable"] == "SOME_API_KEY"
    for text in (answer.content.decode(), str(Run.objects.values().get())):
        assert "very-secret" not in text


def test_other_addresses_are_for_staff(client: Client, user: User) -> None:
    client.force_login(user)
    assert 'value="cloud"' not in client.get("/benchmarks/new/").content.decode()
    answer = client.post("/benchmarks/new/", {**GOOD, "engine": "cloud", "url": "http://127.0.0.1:1"})
    assert "Only staff" in errors(answer)["engine"]
    models = client.get("/benchmarks/new/models/", {"engine": "cloud", "url": "http://127.0.0.1:1"})
    assert "Only staff" in models.content.decode()


def test_fields_that_belong_to_another_kind_change_nothing(page: Client) -> None:
    page.post(
        "/benchmarks/new/",
        {**GOOD, "kind": "latency", "concurrency": "7", "rate_per_s": "3", "url": "http://x"},
    )
    parameters = Parameters.model_validate(Run.objects.get().parameters)
    assert (parameters.concurrency, parameters.rate_per_s, parameters.url) == (1, None, "")


@pytest.mark.parametrize("name", ["gateway", "embedded"])
def test_models_are_asked_of_the_engine(page: Client, name: str) -> None:
    answer = page.get("/benchmarks/new/models/", {"engine": name, "models": [MODEL, "gone"]})
    text = " ".join(answer.content.decode().split())
    assert f'value="{MODEL}" checked' in text
    assert 'value="twin:latest" >' in text or 'value="twin:latest">' in text
    assert "the engine does not have it" in text


def test_an_engine_that_is_away_is_said_and_names_can_be_typed(page: Client) -> None:
    text = page.get("/benchmarks/new/models/", {"engine": "ollama"}).content.decode()
    assert "http://127.0.0.1:1 does not answer" in text
    assert 'id="id_models_typed"' in text
    assert "answers" not in page.get("/benchmarks/new/models/", {"engine": "nonsense"}).content.decode()


def test_run_again_fills_in_what_the_run_had(page: Client, make_run: Callable[..., Run]) -> None:
    run = make_run(
        kind="load",
        concurrency=3,
        think_time_s=2.5,
        workload=None,
        prompt_tokens=77,
        output_tokens=9,
        num_predict=None,
    )
    form = page.get(f"/benchmarks/new/?again={run.pk}").context["form"]
    values = {
        name: form[name].value()
        for name in ("kind", "concurrency", "think_time_s", "prompts", "prompt_tokens")
    }
    assert values == {
        "kind": "load",
        "concurrency": 3,
        "think_time_s": 2.5,
        "prompts": "lengths",
        "prompt_tokens": 77,
    }
    assert page.get("/benchmarks/new/?again=99999").status_code == 404
    assert page.get("/benchmarks/new/?again=x").status_code == 200


def estimate(page: Client, **changes: Any) -> str:
    text = page.post("/benchmarks/new/estimate/", {**GOOD, **changes}).content.decode()
    return " ".join(text.split())


def test_the_estimate_is_unknown_until_something_was_recorded(page: Client) -> None:
    assert "unknown: no earlier request" in estimate(page)
    assert "until the form is filled in" in estimate(page, n_requests="")
    InferenceRequest.objects.create(
        request_id="1", at=NOW, path="/api/generate", api="ollama", kind="generate", model="aicleaner-sample",
        stream=True, status=200, total_ms=1100, load_ms=100, eval_ms=800, output_tokens=8, request_bytes=1,
        response_bytes=1, cache="bypass",
    )  # fmt: skip
    # 2 rounds of 0.7 s and 3 + 4 requests of 0.2 s and 8 tokens at 0.1 s
    assert "about 15 s" in estimate(page)
    assert "about 27 s" in estimate(page, num_predict="16")
    assert "unknown: no earlier request" in estimate(page, models=[MODEL, "twin:latest"])


def test_an_earlier_run_of_the_same_kind_counts_more_than_single_requests(
    page: Client, make_run: Callable[..., Run]
) -> None:
    run = make_run(kind="throughput", concurrency=2, n_requests=4)
    Measurement.objects.create(
        run=run, model=MODEL, round=0, started_at=NOW, ended_at=NOW.replace(second=7, microsecond=700_000),
        complete=True, summary={}, raw=b"",
    )  # fmt: skip
    assert "about 15 s" in estimate(page)  # 2 rounds of 0.7 s and 7 requests of 1 s
