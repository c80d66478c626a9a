"""The cache as people see and change it: figures of the gateway, distances of zones, forgetting."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.contrib.auth.models import User
from django.test import Client

from aicleaner_site.config import parse_config
from aicleaner_site.valkey import ValkeyServer
from inference.caching import selectors, services
from inference.gateway.pushed import CACHE_ORDERS, ZONES
from inference.gateway.records import STREAM
from inference.models import CacheZone, InferenceRequest
from inference.services import store_request_records
from tests.inference.gateways import push, wait_until_told
from tests.inference.rooms import as_seen, encoded, room
from tests.inference.serving import Server
from tests.inference.test_transcripts import Answer, call
from tests.inference.upstream import Upstream, response
from tests.product import wait_for

pytestmark = pytest.mark.django_db(transaction=True)
FIXED = {"temperature": 0}
MODELS = b'[{"name": "m:latest", "digest": "d", "size": 1}, {"name": "n:latest", "digest": "e", "size": 1}]'


class Numbered:
    """An engine whose every answer is another one."""

    def __init__(self) -> None:
        self.n = 0

    def __call__(self, request: bytes, connection: Any) -> None:
        self.n += 1
        answer = {"model": "m", "response": f"{self.n}", "done": True, "done_reason": "stop", "eval_count": 3}
        connection.sendall(response(json.dumps(answer | {"prompt_eval_count": 40}).encode()))


@pytest.fixture
def gateway(own_valkey: ValkeyServer, settings: Any) -> Iterator[Server]:
    """With two models, before an engine that takes pictures; the pages of the test speak to it."""
    settings.VALKEY_URL = own_valkey.url
    with Upstream(Numbered()) as upstream:
        upstream.models = MODELS
        arguments = ("--valkey", own_valkey.url, "--engine", f"ollama={upstream.url}")
        with Server("inference.gateway", *arguments, ready="/api/version") as server:
            known: dict[str, Any] = {
                "model": "m",
                "prompt": "known?",
                "stream": False,
                "options": {**FIXED, "num_predict": 1},
            }
            wait_for(lambda: cached(ask(server, **known)) != "bypass", "the models are known")
            yield server


@pytest.fixture
def boss(client: Client) -> Client:
    client.force_login(User.objects.create(username="boss", is_staff=True))
    return client


def ask(server: Server, headers: dict[str, str] | None = None, **fields: Any) -> Answer:
    body = {"model": "m", "prompt": "dirty?", "stream": False, "options": FIXED, **fields}
    return call(server.url, "POST", "/api/generate", headers or {}, body)


def look(server: Server, zone: str, picture: Any, **fields: Any) -> Answer:
    return ask(server, {"x-aicleaner-zone": zone}, images=[encoded(picture)], **fields)


def cached(answer: Answer) -> str:
    return str(answer.headers["x-aicleaner-cache"])


# --- frames -----------------------------------------------------------------------------------------------


def test_a_zone_with_a_distance_shares_answers_between_frames_and_no_other_does(
    gateway: Server, boss: Client, own_store: redis.Redis
) -> None:
    first, again, other = (as_seen(room(number), seed=seed) for number, seed in ((1, 1), (1, 2), (2, 3)))
    assert [cached(look(gateway, "kitchen", each)) for each in (first, again)] == ["miss", "miss"]  # off
    page = boss.post("/cache/zones/", {"zone": "kitchen", "distance": "6"}, follow=True).content.decode()
    assert "The gateway uses it from the next request on." in page
    begun = look(gateway, "kitchen", first, system="Look.")
    near = look(gateway, "kitchen", again, system="Look.")
    assert (cached(begun), cached(near), near.body) == ("miss", "hit", begun.body)
    assert int(near.headers["x-aicleaner-cache-distance"]) <= 6
    exact = look(gateway, "kitchen", first, system="Look.")
    assert (cached(exact), "x-aicleaner-cache-distance" in exact.headers) == ("hit", False)
    assert cached(look(gateway, "kitchen", other, system="Look.")) == "miss"
    assert cached(look(gateway, "hall", as_seen(room(1), seed=4), system="Look.")) == "miss"
    assert (
        cached(look(gateway, "kitchen", as_seen(room(1), seed=5), system="Look.", prompt="tidy?")) == "miss"
    )
    stream = look(gateway, "kitchen", as_seen(room(1), seed=6), system="Look.", model="n")
    assert cached(stream) == "miss"
    wait_until_told(own_store, "cache_hits_total", 2)
    wait_for(lambda: own_store.xlen(STREAM) >= 9, "all are recorded")
    store_request_records(own_store)
    distances = list(InferenceRequest.objects.filter(cache="hit").values_list("cache_distance", flat=True))
    assert sorted(distances, key=str) == [int(near.headers["x-aicleaner-cache-distance"]), None]
    assert "1 answer shared" in boss.get("/cache/").content.decode()

    boss.post(f"/cache/zones/{CacheZone.objects.get().pk}/remove/")
    assert cached(look(gateway, "kitchen", as_seen(room(1), seed=7), system="Look.")) == "miss"


def test_a_gateway_that_starts_later_and_one_that_lost_its_state_get_the_zones(
    gateway: Server, own_store: redis.Redis
) -> None:
    from inference.tasks import keep_gateway_in_step

    CacheZone.objects.create(name="kitchen", distance=6, who="mia", at="2026-01-01T00:00:00Z")
    keep_gateway_in_step()
    assert json.loads(own_store.get(ZONES.key) or b"") == {"zones": {"kitchen": 6}}
    assert wait_until_told_zones(own_store) == {"kitchen": 6}
    assert "can't read the zones" in push(own_store, ZONES, {"zones": {"kitchen": 99}})
    assert wait_until_told_zones(own_store) == {"kitchen": 6}


def wait_until_told_zones(store: redis.Redis) -> Any:
    def told() -> Any:
        raw: Any = store.get("aicleaner:gateway:stats")
        return json.loads(raw)["cache"]["zones"] if raw else None

    return wait_for(told, "the gateway tells its zones")


@pytest.mark.parametrize(
    ("zone", "distance", "error"),
    [
        ("", "4", "This field is required"),
        ("küche", "4", "ASCII letters"),
        ("a\nb", "4", "ASCII letters"),
        ("a", "17", "less than or equal to 16"),
        ("a", "-1", "greater than or equal to 0"),
        ("a", "x", "Enter a whole number"),
    ],
)
def test_bad_input_is_answered_beside_its_field(boss: Client, zone: str, distance: str, error: str) -> None:
    answer = boss.post("/cache/zones/", {"zone": zone, "distance": distance})
    assert answer.status_code == 400
    assert error in answer.content.decode()
    assert not CacheZone.objects.exists()


# --- clearing and figures ---------------------------------------------------------------------------------


def test_answers_are_forgotten_by_model_and_all_and_the_page_says_how_many(
    gateway: Server, boss: Client, own_store: redis.Redis
) -> None:
    for model in ("m", "n"):
        assert [cached(ask(gateway, model=model, prompt=each)) for each in "ab"] == ["miss", "miss"]
    page = boss.post("/cache/clear/", {"model": "n:latest"}, follow=True).content.decode()
    assert "The gateway forgot 2 answers of n:latest." in page
    assert [cached(ask(gateway, model=model, prompt="a")) for model in ("m", "n")] == ["hit", "miss"]
    page = boss.post("/cache/clear/", follow=True).content.decode()
    assert "The gateway forgot 4 answers of all models." in page  # and the one of `known?`
    assert cached(ask(gateway, prompt="a")) == "miss"
    assert "forgot 0 answers" in services.clear("other:latest", who="mia").text
    assert "can't read the cache-orders" in json.dumps(push_order(own_store, {"clear": 1}))


def push_order(store: redis.Redis, what: dict[str, Any]) -> list[str]:
    from inference.pushing import order

    return order(CACHE_ORDERS, what)


def test_the_page_shows_what_each_model_keeps_and_saved(
    gateway: Server, boss: Client, own_store: redis.Redis
) -> None:
    for _ in range(3):
        ask(gateway, model="n")
    wait_until_told(own_store, "cache_hits_total", 2)
    told = selectors.told().cache
    assert told is not None
    of_n = told["models"]["n:latest"]
    assert (of_n["entries"], of_n["hits"], of_n["misses"], of_n["near_hits"]) == (1, 2, 1, 0)
    assert (of_n["saved_output_tokens"], of_n["saved_prompt_tokens"]) == (6, 80)
    assert of_n["bytes"] > 0
    assert of_n["saved_s"] >= 0
    assert 0 <= of_n["oldest_s"] < 60
    whole = boss.get("/cache/").content.decode()
    assert "n:latest" in whole
    assert "67 %" in whole
    partial = boss.get("/cache/", headers={"HX-Request": "true"}).content.decode()
    assert "<html" not in partial
    assert "n:latest" in partial


def test_settings_are_those_of_the_gateway_with_their_source(gateway: Server, settings: Any) -> None:
    wait_for(lambda: selectors.told().cache, "the gateway tells")
    told = selectors.told().cache
    assert told is not None
    settings.CONFIG = parse_config(
        "performance_optimization: {caching: {cache_ttl_minutes: 5, max_cache_entries: 7}}"
    )
    found = {each.name: (each.value, each.source) for each in selectors.in_force(told)}
    assert found["Kept for"] == ("5 minutes", "config.yaml, caching.cache_ttl_minutes")
    assert found["Compression"] == ("zstd", "default of caching.cache_compression")
    assert found["Answers"][1].startswith("the gateway's own start; config.yaml says otherwise")
    profile = {"name": "quick", "cache": True, "ttl_s": 60.0}
    found = {each.name: (each.value, each.source) for each in selectors.in_force(told | {"profile": profile})}
    assert found["Kept for"] == ("1 minute", "profile quick")
    assert found["Takes"] == ("every answer", "profile quick")


def test_without_a_gateway_and_without_valkey_the_page_says_so(
    boss: Client, settings: Any, own_valkey: ValkeyServer
) -> None:
    settings.VALKEY_URL = own_valkey.url
    assert "No gateway runs: nothing is kept." in boss.get("/cache/").content.decode()
    assert (
        "No gateway runs: there is nothing to clear."
        in boss.post("/cache/clear/", follow=True).content.decode()
    )
    settings.VALKEY_URL = "redis://127.0.0.1:1"
    assert not services.clear("", who="mia").ok
    assert "Valkey is away" in str(selectors.told().why)


def test_only_staff_changes_anything_and_nothing_is_shown_without_a_login(client: Client) -> None:
    assert client.get("/cache/").status_code == 302
    client.force_login(User.objects.create(username="guest"))
    assert "Clear" not in client.get("/cache/").content.decode()
    for path in ("/cache/clear/", "/cache/zones/", "/cache/zones/1/remove/"):
        assert client.post(path, {"zone": "a", "distance": "1"}).status_code == 403
        assert client.get(path).status_code == 405
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.create(username="boss", is_staff=True))
    assert strict.post("/cache/clear/").status_code == 403
