"""What is done with models from their pages, and what came by itself, on the real embedded engine."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from django.conf import settings as product
from django.test import Client
from django.utils import timezone

from benchmarks import services as benchmark_services
from benchmarks.parameters import Parameters
from inference.aliases.services import set_alias, undo
from inference.catalogue import services
from inference.catalogue.engine import EngineApi
from inference.engines.selectors import EngineAddress
from inference.errors import EngineProblemError, NotAllowedError
from inference.gateway.kept import KEPT_KEY, kept_field
from inference.gateway.memory import NEWS_STREAM
from inference.jobs import services as job_services
from inference.jobs.parameters import JobParameters
from inference.models import ModelAction, ModelEvent
from monitoring.models import Event
from tests.inference.model_pages import EMBED, A, B, act, loaded, log, names, said, text_of
from tests.inference.serving import Server
from tests.product import wait_for

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("engines", "valkey_url", "no_gateway_before"),
]


def test_load_and_unload(person: Client, embedded: EngineAddress) -> None:
    event = services.ask_to_load(embedded, A, who="anna", now=timezone.now())
    assert person.get("/models/?q=tiny-script").context["entries"][0].loading_since is not None
    with pytest.raises(NotAllowedError, match="is being loaded already"):
        services.ask_to_load(embedded, A, who="mia", now=timezone.now())
    services.load(event, embedded)
    assert loaded(embedded, A)
    assert said(act(person, "unload")) == f"{A} is unloaded."
    assert loaded(embedded, A) is None
    assert said(act(person, "unload")) == f"{A} is not loaded."
    assert log() == [("anna", "load", A, "done", ""), ("anna", "unload", A, "done", "")]
    assert ModelEvent.objects.earliest("id").result.startswith("in ")
    lane = list(Event.objects.order_by("id").values_list("text", flat=True))
    assert lane == [f"anna loaded {A}", f"anna unloaded {A}"]


def test_a_load_that_fails_says_why(embedded: EngineAddress) -> None:
    event = services.ask_to_load(embedded, "nothing:1b", who="anna", now=timezone.now())
    services.load(event, embedded)
    event.refresh_from_db()
    assert event.state == "failed"
    assert "model 'nothing:1b' not found (HTTP 404)" in event.result


def test_a_load_whose_worker_is_gone_is_said_to_have_failed(embedded: EngineAddress) -> None:
    event = services.ask_to_load(embedded, A, who="anna", now=timezone.now())
    services.end_lost_loads(before=event.at)
    event.refresh_from_db()
    assert event.state == "running"
    services.end_lost_loads(before=event.at + timedelta(seconds=1))
    event.refresh_from_db()
    assert (event.state, event.result) == ("failed", "the process that loaded it is gone")


def test_an_embedding_model_is_loaded_and_unloaded_too(person: Client, embedded: EngineAddress) -> None:
    services.load(services.ask_to_load(embedded, EMBED, who="anna", now=timezone.now()), embedded)
    assert loaded(embedded, EMBED)
    assert said(act(person, "keep", EMBED, keep="8h")) == f"{EMBED} is kept: 8 hours."
    assert said(act(person, "unload", EMBED)) == f"{EMBED} is unloaded."


def test_keep_alive_moves_the_expiry_and_tells_the_gateway(
    person: Client, embedded: EngineAddress, valkey_url: str
) -> None:
    assert "is not loaded" in said(act(person, "keep", keep="forever"))
    with EngineApi(embedded, within_s=30) as api:
        api.load(A, options={"num_ctx": 512})
    assert said(act(person, "keep", keep="8h")) == f"{A} is kept: 8 hours."
    found = loaded(embedded, A)
    assert found["context_length"] == 512  # it was not loaded anew
    expires_at = datetime.fromisoformat(found["expires_at"])
    assert timedelta(hours=7, minutes=59) < expires_at - timezone.now() <= timedelta(hours=8)
    with redis.from_url(valkey_url) as valkey:
        until: Any = valkey.hget(KEPT_KEY, kept_field(embedded.url, A))
        assert datetime.fromtimestamp(float(until), UTC) > timezone.now() + timedelta(hours=7)
        act(person, "keep", keep="forever")
        until = valkey.hget(KEPT_KEY, kept_field(embedded.url, A))
        assert float(until) == float("inf")
        valkey.delete(KEPT_KEY)
    assert loaded(embedded, A)["expires_at"].startswith("2318")
    assert "kept until it is unloaded" in text_of(person.get(f"/models/embedded/{A}/"))
    assert "keep: Select a valid choice" in said(act(person, "keep", keep="5 years"))


def test_copy_and_delete(staff: Client, embedded: EngineAddress) -> None:
    copy = "a/copy:v1"
    assert said(act(staff, "copy", target=copy)) == f"{A} is copied to {copy}."
    assert copy in names(embedded)
    for same in (copy, "A/Copy:v1"):  # an engine may take both for one
        assert "There is a model a/copy:v1 already" in said(act(staff, "copy", target=same))
    assert "Choose another name" in text_of(act(staff, "copy", target="tiny-script"))
    assert "is no model name" in text_of(act(staff, "copy", target="../etc"))
    question = text_of(staff.get("/models/delete/", {"engine": "embedded", "model": copy}))
    assert f"Delete {copy}?" in question
    assert "type a/copy:v1" in text_of(act(staff, "delete", copy, typed="something"))
    assert copy in names(embedded)
    assert said(act(staff, "delete", copy, typed=copy)) == f"{copy} is deleted."
    assert copy not in names(embedded)
    assert "not found (HTTP 404)" in said(act(staff, "delete", copy, typed=copy))
    assert log() == [
        ("boss", "copy", A, "done", f"to {copy}"),
        ("boss", "delete", copy, "done", ""),
        ("boss", "delete", copy, "failed", ""),
    ]


def test_a_model_that_a_job_or_a_benchmark_uses_is_not_deleted(
    staff: Client, embedded: EngineAddress
) -> None:
    parameters = JobParameters(engine_kind="embedded")
    job = job_services.create_job(
        "measure", A, B, parameters, host=product.HOST_NAME, who="mia", user=None, now=timezone.now()
    )
    assert "Not now." in text_of(staff.get("/models/delete/", {"engine": "embedded", "model": B}))
    refused = said(act(staff, "delete", B, typed=B))
    assert refused.startswith(f"Model job {job.pk} (measure {A} -> {B}) is queued.")
    job_services.cancel_job(job, who="mia", now=timezone.now())
    run_of = Parameters.model_validate(
        {
            "engine": "embedded",
            "models": ["tiny-think"],
            "workload": "task_generation",
            "n_rounds": 2,
            "n_requests": 3,
            "num_predict": 8,
            "temperature": 0,
        }
    )
    run = benchmark_services.create_run(
        run_of, host=product.HOST_NAME, who="mia", user=None, now=timezone.now()
    )
    assert f"Benchmark {run.pk} of {B} is queued." in said(act(staff, "delete", B, typed=B))
    assert B in names(embedded)
    assert log() == []


def test_a_model_that_answers_for_another_is_not_deleted(staff: Client, embedded: EngineAddress) -> None:
    person: dict[str, Any] = {"who": "mia", "user": None, "now": timezone.now()}
    change = set_alias(A, B, **person)
    assert f"{B} answers for {A}: undo that first." in text_of(
        staff.get("/models/delete/", {"engine": "embedded", "model": B})
    )
    assert f"{B} was not deleted." in said(act(staff, "delete", B, typed=B))
    assert B in names(embedded)
    undo(change, **person)
    assert "Not now." not in text_of(staff.get("/models/delete/", {"engine": "embedded", "model": B}))


def test_an_action_at_an_engine_that_is_away_is_an_error_and_in_the_log(person: Client) -> None:
    answer = person.post("/models/unload/", {"engine": "ollama", "model": "x:y"}, follow=True)
    assert "Ollama at http://127.0.0.1:1 does not answer" in said(answer)
    gone = EngineAddress("ollama", "http://127.0.0.1:1", "ollama")
    with pytest.raises(EngineProblemError):
        services.delete_model(gone, "x:y", who="boss", now=timezone.now())
    assert log() == [("boss", "delete", "x:y", "failed", "")]
    assert "could not delete x:y" in Event.objects.get().text


def test_a_form_that_is_not_ours_is_refused_by_field(person: Client) -> None:
    assert "engine: Select a valid choice" in said(act(person, "load", engine="cloud"))
    assert "model: " in said(act(person, "unload", "a b"))
    foreign = person.post(
        "/models/unload/", {"engine": "embedded", "model": A, "next": "https://elsewhere.example/"}
    )
    assert foreign.headers["Location"] == f"/models/embedded/{A}/"


# --- what came by itself ----------------------------------------------------------------------------------


def test_what_the_gateway_unloaded_is_in_the_log_once_with_its_reason(
    person: Client, valkey_url: str
) -> None:
    at = timezone.now().timestamp()
    news = {"what": "unload", "at": at, "who": "automatic", "engine": "embedded", "model": A, "problem": ""}
    with redis.from_url(valkey_url) as valkey:
        valkey.delete(NEWS_STREAM)
        first = {"n": json.dumps({**news, "reason": "idle for 30 min"})}
        entry: Any = valkey.xadd(NEWS_STREAM, first)
        valkey.xadd(NEWS_STREAM, {"n": json.dumps({"what": "changed", "at": at})})
        valkey.xadd(
            NEWS_STREAM, {"n": json.dumps({**news, "who": "engine", "reason": "its keep-alive was over"})}
        )
        for raw in ("no json", "[]", "{}", json.dumps({**news, "at": 1e99, "reason": ""})):
            valkey.xadd(NEWS_STREAM, {"n": raw})  # holds up nothing
        assert services.store_gateway_news(valkey) == 7
        assert valkey.xlen(NEWS_STREAM) == 0
        valkey.delete(NEWS_STREAM)  # with it the ids begin anew
        valkey.xadd(NEWS_STREAM, first, id=entry)  # a worker that was killed before it could remove it
        services.store_gateway_news(valkey)
        valkey.delete(NEWS_STREAM)
    assert log() == [
        ("gateway", "unload", A, "done", "idle for 30 min"),
        ("engine", "unload", A, "done", "its keep-alive was over"),
    ]
    texts = set(Event.objects.values_list("text", flat=True))
    assert texts == {f"gateway unloaded {A}: idle for 30 min"}  # of the other the collector tells
    page = text_of(person.get("/models/log/?model=tiny-script"))
    assert "idle for 30 min" in page
    assert "by gateway (by itself)" in page
    assert "No event matches" in text_of(person.get("/models/log/?model=other"))
    for asked, n in (
        ("state=done", 2),
        ("state=failed", 0),
        ("kind=unload", 2),
        ("kind=load", 0),
        ("kind=x", 0),
    ):
        assert person.get(f"/models/log/?{asked}").context["page"].paginator.count == n, asked


def test_the_page_shows_what_the_gateway_knows(
    person: Client, embedded: EngineAddress, engine: Server, valkey_url: str
) -> None:
    arguments = ("--valkey", valkey_url, "--engine", f"embedded={engine.url}")
    rules = ("--max-loaded", "3", "--unload-after", "1800", "--relieve")
    with EngineApi(embedded, within_s=30) as api:
        api.load(A)
    with redis.from_url(valkey_url) as valkey, Server("inference.gateway", *arguments, *rules):

        def standing() -> Any:
            entry = person.get("/models/?q=tiny-script").context["entries"][0]
            return entry.loaded and entry.loaded.standing

        found = wait_for(standing, "the gateway has looked")
        assert (found.busy, found.kept) == (False, False)
        page = text_of(person.get("/models/"))
        for words in (
            "1 of 3",
            "pressure: ",
            "An idle model goes after 30 min, sooner under pressure",
            "in use",
        ):
            assert words in page, words
        assert "GPU memory unknown" in page
    with redis.from_url(valkey_url) as valkey:
        for key in valkey.scan_iter("aicleaner:gateway:*"):
            valkey.delete(key)


def test_old_lines_of_the_log_are_deleted(embedded: EngineAddress) -> None:
    now = timezone.now()
    for days in (1, 364, 366):
        services.record_event(ModelAction.LOAD, "embedded", A, who="anna", now=now - timedelta(days=days))
    services.delete_old_events(now=now)
    assert ModelEvent.objects.count() == 2
