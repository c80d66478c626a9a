"""The pages of models, on the real embedded engine beside an Ollama that is away."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from inference.catalogue.details import details_of
from inference.catalogue.engine import EngineApi
from inference.engines.selectors import EngineAddress
from tests.inference.model_pages import EMBED, A, B, request_of, text_of
from tests.inference.stand_in import GIB, StandIn

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("engines", "valkey_url", "no_gateway_before"),
]


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
    with django_assert_max_num_queries(13):
        assert person.get("/models/").status_code == 200


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
