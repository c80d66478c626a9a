"""A variant takes its source's place and gives it back: in the gateway, in the record, on the page."""

import json
from collections.abc import Iterator

import pytest
import redis
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from aicleaner_site.valkey import ValkeyServer
from inference.aliases import selectors, services
from inference.errors import NotAllowedError
from inference.gateway.pushed import ALIASES
from inference.models import AliasChange, Variant
from inference.pushing import push_if_stale
from inference.work.engine import EngineClient
from tests.inference import gateways
from tests.inference.serving import Server
from tests.inference.test_transcripts import call

SAMPLE, OTHER = "aicleaner-sample:latest", "tiny-script:latest"


@pytest.fixture
def gateway(engine: Server, own_valkey: ValkeyServer) -> Iterator[Server]:
    with gateways.start(engine, own_valkey) as server:
        yield server


def test_another_model_answers_from_the_next_request_on_and_until_the_undo(
    gateway: Server, own_store: redis.Redis
) -> None:
    plain = gateways.generate(gateway, options={"num_predict": 4})
    assert "x-aicleaner-model" not in plain.headers
    assert gateways.hand_over_aliases(own_store, **{SAMPLE: OTHER}) == "ok"
    aliased = gateways.generate(gateway)
    assert aliased.headers["x-aicleaner-model"] == OTHER
    assert json.loads(aliased.body)["response"].startswith("The kitchen lamp")
    chat = {"model": "aicleaner-sample", "messages": [{"role": "user", "content": "hi"}], "stream": False}
    answer = call(gateway.url, "POST", "/v1/chat/completions", {}, chat)
    assert "kitchen lamp" in json.loads(answer.body)["choices"][0]["message"]["content"]
    assert [(each["model"], each["alias"]) for each in gateways.records(own_store, 3)] == [
        ("aicleaner-sample", ""),
        (OTHER, "aicleaner-sample"),
        (OTHER, "aicleaner-sample"),
    ]
    assert gateways.hand_over_aliases(own_store) == "ok"
    assert json.loads(gateways.generate(gateway).body)["response"] != json.loads(aliased.body)["response"]


def test_a_stand_in_that_was_made_a_moment_ago_answers_at_once(
    gateway: Server, engine: Server, own_store: redis.Redis
) -> None:
    """The gateway has listed the models before it was made."""
    gateways.wait_until_listed(gateway)
    made = {"source": OTHER, "destination": "made:now"}
    assert call(engine.url, "POST", "/api/copy", {}, made).status == 200
    try:
        gateways.hand_over_aliases(own_store, **{SAMPLE: "made:now"})
        assert gateways.generate(gateway).headers["x-aicleaner-model"] == "made:now"
    finally:
        call(engine.url, "DELETE", "/api/delete", {}, {"model": "made:now"})


def test_a_name_whose_stand_in_is_gone_answers_for_itself(gateway: Server, own_store: redis.Redis) -> None:
    gateways.wait_until_listed(gateway)
    gateways.hand_over_aliases(own_store, **{SAMPLE: "deleted-since:latest"})
    gateways.wait_until_listed(gateway)
    answer = gateways.generate(gateway)
    assert (answer.status, "x-aicleaner-model" in answer.headers) == (200, False)


def test_a_state_that_makes_no_sense_is_refused_and_the_last_stays(
    gateway: Server, own_store: redis.Redis
) -> None:
    gateways.hand_over_aliases(own_store, **{SAMPLE: OTHER})
    assert "can't read the aliases" in gateways.push(own_store, ALIASES, {"aliases": [1]})
    assert gateways.generate(gateway).headers["x-aicleaner-model"] == OTHER


def decide(name: str, target: str) -> AliasChange:
    return services.set_alias(name, target, who="mia", user=None, now=timezone.now(), told=lambda _: None)


@pytest.mark.django_db
def test_each_decision_can_be_undone_and_chains_are_refused() -> None:
    first = decide("a", "b")
    assert selectors.gateway_state() == {"aliases": {"a:latest": "b:latest"}, "fallbacks": {}}
    second = decide("a", "c:1")
    for name, target, why in (
        ("x", "a", "stands for c:1 itself"),
        ("c:1", "d", "answers for a:latest: undo that first"),
        ("a", "c:1", "already"),
        ("z", "z", "already"),
    ):
        with pytest.raises(NotAllowedError, match=why):
            decide(name, target)
    with pytest.raises(NotAllowedError, match="changed since"):
        services.undo(first, who="mia", user=None, now=timezone.now())
    back = services.undo(second, who="mia", user=None, now=timezone.now(), told=lambda _: None)
    assert (back.before, back.after) == ("c:1", "b:latest")
    decide("a", "")
    assert selectors.in_force() == []
    assert AliasChange.objects.count() == 4


@pytest.mark.django_db(transaction=True)
def test_the_page_switches_and_undoes_and_says_whether_the_gateway_heard(
    client: Client, valkey_url: str
) -> None:
    variant = Variant.objects.create(
        engine_kind="embedded", name="m:q4", digest="d", size_bytes=1, source="m:latest", source_digest="s",
        source_size_bytes=4, made_at=timezone.now(),
    )  # fmt: skip
    client.force_login(User.objects.create(username="guest"))
    assert client.post(f"/models/variants/{variant.pk}/use/").status_code == 403
    client.force_login(User.objects.create(username="boss", is_staff=True))
    page = client.post(f"/models/variants/{variant.pk}/use/", follow=True).content.decode()
    assert "no gateway runs: it is used as soon as one starts" in page
    assert "m:q4</b> answers for <b>m:latest" in page
    assert "answers for m:latest" in client.get(f"/models/variants/{variant.pk}/").content.decode()
    with redis.from_url(valkey_url) as valkey:
        assert json.loads(valkey.get(ALIASES.key) or "") == {"aliases": {"m:latest": "m:q4"}, "fallbacks": {}}
        valkey.delete(ALIASES.key)
        assert push_if_stale(ALIASES, selectors.gateway_state)
        assert not push_if_stale(ALIASES, selectors.gateway_state)
    change = AliasChange.objects.get()
    after = client.post(f"/models/aliases/{change.pk}/undo/", follow=True).content.decode()
    assert "answers for <b>" not in after


@pytest.mark.django_db
@pytest.mark.usefixtures("engines", "valkey_url")
def test_a_variant_that_is_gone_or_another_file_is_not_used(staff: Client, client_of: EngineClient) -> None:
    def use(engine: str, name: str, digest: str) -> str:
        variant = Variant.objects.create(
            engine_kind=engine, name=name, digest=digest, size_bytes=1, source="m:latest", source_digest=name,
            source_size_bytes=4, made_at=timezone.now(),
        )  # fmt: skip
        return staff.post(f"/models/variants/{variant.pk}/use/", follow=True).content.decode()

    assert "Embedded engine has no model m:q4 any more." in use("embedded", "m:q4", "d")
    assert f"{OTHER} is another file now than the one that was measured." in use("embedded", OTHER, "d")
    assert "There is no engine shed any more." in use("shed", "m:q4", "d")
    assert not AliasChange.objects.exists()
    digest = client_of.tag(OTHER).digest
    assert f"{OTHER}</b> answers for <b>m:latest" in use("embedded", OTHER, digest)
