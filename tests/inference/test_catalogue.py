"""The pages of models and what is done from them, on the real embedded engine beside an Ollama that is away."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import settings as product
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from benchmarks import services as benchmark_services
from benchmarks.parameters import Parameters
from inference.catalogue import services
from inference.catalogue.details import details_of
from inference.catalogue.engine import EngineAddress, EngineApi
from inference.catalogue.selectors import USE_CACHE
from inference.errors import EngineProblemError, NotAllowedError
from inference.gateway.memory import KEPT_KEY, NEWS_STREAM, kept_field
from inference.jobs import services as job_services
from inference.jobs.parameters import JobParameters
from inference.models import InferenceRequest, ModelAction, ModelEvent
from monitoring.models import Event
from tests.inference.serving import Server
from tests.inference.stand_in import GIB, StandIn, stand_in
from tests.product import wait_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("engines", "valkey_url")]
A, B, EMBED = "tiny-script:latest", "tiny-think:latest", "tiny-embed:latest"


@pytest.fixture(autouse=True)
def nothing_counted_before() -> None:
    cache.delete(USE_CACHE)


@pytest.fixture
def embedded(engine: Server) -> EngineAddress:
    return EngineAddress("embedded", engine.url)


@pytest.fixture
def engines(embedded: EngineAddress, settings: Any) -> None:
    settings.ENGINES = [
        {"kind": "ollama", "url": "http://127.0.0.1:1"},
        {"kind": "embedded", "url": embedded.url},
    ]
    with EngineApi(embedded) as api:
        for each in api.loaded():
            api.unload(each["name"])


@pytest.fixture
def ollama(engine: Server, settings: Any) -> Iterator[StandIn]:
    with stand_in() as server:
        settings.ENGINES = [{"kind": "ollama", "url": server.url}, {"kind": "embedded", "url": engine.url}]
        yield server


@pytest.fixture
def person(client: Client) -> Client:
    client.force_login(User.objects.create(username="anna"))
    return client


@pytest.fixture
def staff() -> Client:
    client = Client()
    client.force_login(User.objects.create(username="boss", is_staff=True))
    return client


def text_of(answer: Any) -> str:
    return " ".join(answer.content.decode().split())


def names(engine: EngineAddress) -> set[str]:
    with EngineApi(engine) as api:
        return {each["name"] for each in api.tags()}


def loaded(engine: EngineAddress, name: str) -> Any:
    with EngineApi(engine) as api:
        return api.find_loaded(name)


def act(client: Client, action: str, model: str = A, **fields: str) -> Any:
    return client.post(
        f"/models/{action}/",
        {"engine": "embedded", "model": model, "next": "/models/", **fields},
        follow=True,
    )


def said(answer: Any) -> str:
    return " ".join(map(str, answer.context["messages"]))


def log() -> list[tuple[str, str, str, str, str]]:
    rows = ModelEvent.objects.order_by("id").values_list("who", "action", "model", "state", "detail")
    return list(rows)


def request_of(model: str, at: datetime, **more: Any) -> None:
    values: dict[str, Any] = {
        "request_id": f"{InferenceRequest.objects.count()}",
        "path": "/api/chat",
        "api": "ollama",
        "kind": "chat",
        "stream": False,
        "status": 200,
        "total_ms": 1,
        "request_bytes": 1,
        "response_bytes": 1,
        "cache": "bypass",
        "engine_kind": "embedded",
        "prompt_tokens": 10,
        "output_tokens": 5,
        "client": "ollama-python",
    }
    InferenceRequest.objects.create(**{**values, "model": model, "at": at, **more})


# --- the list ---------------------------------------------------------------------------------------------


def test_all_models_are_listed_and_an_engine_that_is_away_is_said_to_be(person: Client) -> None:
    page = person.get("/models/")
    assert {each.name for each in page.context["entries"]} >= {A, B, EMBED, "aicleaner-sample:latest"}
    text = text_of(page)
    assert "Ollama at http://127.0.0.1:1 does not answer" in text
    assert "The gateway does not run: nobody keeps the models within their limits." in text
    assert "no request seen" in text


def test_loaded_models_come_first_with_their_memory(person: Client, embedded: EngineAddress) -> None:
    with EngineApi(embedded, within_s=30) as api:
        api.load(B)
    first = person.get("/models/").context["entries"][0]
    assert first.name == B
    assert first.loaded.memory_bytes > 2**20
    assert first.loaded.vram_share == 0
    assert first.loaded.context_length == 4096
    assert timezone.now() < first.loaded.expires_at < timezone.now() + timedelta(minutes=6)


@pytest.mark.parametrize(
    ("query", "found"),
    [("q=THINK", {B}), ("q=tiny-embed&engine=embedded", {EMBED}), ("engine=ollama", set()), ("q=tiny-script&state=idle", {A}),
     ("state=loaded", set()), ("q=tiny-think&state=nonsense&sort=x", None), ("q=tiny-script&state=unused", set())],
)  # fmt: skip
def test_filters(person: Client, query: str, found: set[str] | None) -> None:
    request_of("tiny-script", timezone.now())
    page = person.get(f"/models/?{query}")
    shown = {each.name for each in page.context["entries"]}
    assert shown == found if found is not None else len(shown) > 1  # what is no choice filters nothing
    if not shown:
        assert "No model matches" in text_of(page)


@pytest.mark.parametrize(
    ("sort", "first"), [("name", "aicleaner-sample:latest"), ("used", A), ("requests", B)]
)
def test_orders(person: Client, sort: str, first: str) -> None:
    now = timezone.now()
    request_of("tiny-script", now)
    for _ in range(2):
        request_of("tiny-think", now - timedelta(hours=1))
    assert person.get(f"/models/?sort={sort}").context["entries"][0].name == first


def test_use_is_what_the_gateway_saw_of_it(person: Client) -> None:
    now = timezone.now()
    request_of("tiny-script", now - timedelta(days=2), client="a")
    request_of("tiny-script:latest", now - timedelta(days=1), client="b", output_tokens=None)
    request_of("tiny-script", now - timedelta(days=1), done_reason="load")  # no use
    request_of("tiny-script", now, engine_kind="ollama")  # another engine's
    request_of("tiny-think", now - timedelta(days=9))
    use = {each.name: each.use for each in person.get("/models/").context["entries"]}
    assert (use[A].n_requests, use[A].tokens) == (2, 25)
    assert use[A].last_at == now - timedelta(days=1)
    assert (use[B].n_requests, use[B].last_at) == (0, now - timedelta(days=9))
    assert use[EMBED].last_at is None


def test_the_page_of_a_model_names_its_clients(person: Client) -> None:
    now = timezone.now()
    for client, error in (("ha", ""), ("ha", "broke"), ("cli", "")):
        request_of("tiny-script", now, client=client, error=error)
    request_of("tiny-script", now - timedelta(days=8), client="old")
    request_of("tiny-script", now, client="other-engine", engine_kind="ollama")
    clients = person.get(f"/models/embedded/{A}/").context["clients"]
    assert [(each["client"], each["n"], each["n_failed"], each["read"]) for each in clients] == [
        ("ha", 2, 1, 20),
        ("cli", 1, 0, 10),
    ]


def test_more_models_and_requests_cost_no_more_queries(
    person: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for days in range(20):
        request_of("tiny-script", timezone.now() - timedelta(days=days))
    with django_assert_max_num_queries(12):
        person.get("/models/")


def test_what_an_old_engine_does_not_say_is_unknown(person: Client, ollama: StandIn) -> None:
    ollama.tags = [{"name": "old:7b", "size": 4 * GIB, "digest": "sha256:" + "ab" * 32}]
    ollama.loaded = [{"name": "old:7b", "size": 4 * GIB, "size_vram": GIB}]
    page = person.get("/models/?engine=ollama")
    (entry,) = page.context["entries"]
    assert (entry.family, entry.quantization, entry.capabilities, entry.context_length) == ("", "", (), None)
    assert entry.loaded.vram_share == 0.25
    for words in (
        "family unknown",
        "quantization unknown",
        "context unknown",
        "abilities unknown",
        "expiry unknown",
        "abababababab",
    ):
        assert words in text_of(page)


@pytest.mark.parametrize("raw", [b"[]", b"<html>", b'{"models": [1]}', b'{"models": {"a": 1}}'])
def test_something_that_is_no_engine_is_said_to_be_none(person: Client, ollama: StandIn, raw: bytes) -> None:
    ollama.raw = raw
    assert "but not as an engine does" in text_of(person.get("/models/"))


def test_the_pages_need_a_login_and_the_disk_is_for_staff(client: Client, person: Client) -> None:
    assert Client().get(f"/models/embedded/{A}/").status_code == 302
    assert Client().post("/models/load/", {"engine": "embedded", "model": A}).status_code == 302
    for action in ("copy", "delete", "pull", "pull/1/cancel"):
        assert person.post(f"/models/{action}/", {"engine": "embedded", "model": A}).status_code == 403, (
            action
        )
    assert person.get("/models/delete/", {"engine": "embedded", "model": A}).status_code == 403
    page = text_of(person.get(f"/models/embedded/{A}/"))
    assert "Copy it" not in page
    assert "Delete…" not in page
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.get(username="anna"))
    assert strict.post("/models/unload/", {"engine": "embedded", "model": A}).status_code == 403


# --- one model --------------------------------------------------------------------------------------------


def test_the_page_of_a_model_tells_all_that_the_engine_shows(person: Client) -> None:
    page = text_of(person.get("/models/embedded/aicleaner-sample:latest/"))
    for words in (
        "Tensors by type",
        "F16",
        "3,795,200",
        "general.architecture",
        "temperature",
        "512 tokens at most",
        "completion",
    ):
        assert words in page, words


def test_a_name_without_tag_leads_to_the_whole_one_and_an_unknown_one_is_said(person: Client) -> None:
    assert person.get("/models/embedded/tiny-script/").headers["Location"] == f"/models/embedded/{A}/"
    page = person.get("/models/embedded/nobody/nothing:1b/")
    assert page.status_code == 404
    assert "Embedded engine has no model nobody/nothing:1b" in text_of(page)
    assert person.get("/models/cloud/x:y/").status_code == 404
    away = person.get("/models/ollama/x:y/")
    assert "does not answer" in text_of(away)


def test_tensors_by_type_from_a_recorded_answer() -> None:
    recorded = json.loads((Path(__file__).parent / "transcripts" / "show-tiny-embed.json").read_text())
    shown = recorded["response"]["body_json"]
    details = details_of(shown)
    assert sum(each.n_tensors for each in details.tensor_types) == details.n_tensors == len(shown["tensors"])
    assert (
        sum(each.n_values for each in details.tensor_types) == shown["model_info"]["general.parameter_count"]
    )
    assert sum(each.share for each in details.tensor_types) == pytest.approx(1)
    assert details_of({}).tensor_types == []
    q4 = details_of({"tensors": [{"name": "a", "type": "Q4_K", "shape": [256, 2]}]}).tensor_types[0]
    assert q4.n_bytes == 2 * 144
    assert details_of({"tensors": [{"type": "Q9_9", "shape": [4]}]}).tensor_types[0].n_bytes is None


# --- actions ----------------------------------------------------------------------------------------------


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
    assert "There is a model a/copy:v1 already" in said(act(staff, "copy", target=copy))
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


def test_an_action_at_an_engine_that_is_away_is_an_error_and_in_the_log(person: Client) -> None:
    answer = person.post("/models/unload/", {"engine": "ollama", "model": "x:y"}, follow=True)
    assert "Ollama at http://127.0.0.1:1 does not answer" in said(answer)
    gone = EngineAddress("ollama", "http://127.0.0.1:1")
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
    news = {"what": "unload", "at": at, "who": "automatic", "kind": "embedded", "model": A, "problem": ""}
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
    assert "Nothing was done yet" in text_of(person.get("/models/log/?model=other"))


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
