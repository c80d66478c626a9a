"""Profiles in the gateway: what they do to a request, whose turn it is, and how a change arrives; with the real engine."""

import asyncio
import base64
import json
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import example, given
from hypothesis import strategies as st

from aicleaner_site.valkey import ValkeyServer
from inference.engine.scheduler import SMALL_MODEL_BYTES
from inference.gateway.models import ONE_THREAD_BYTES
from inference.gateway.profile import (
    NONE,
    Gate,
    Profile,
    TooManyWaitingError,
    fill,
    splice,
)
from inference.gateway.pushed import PROFILES
from inference.names import full_name
from tests.inference.gateways import ROOM, generate, hand_over, start
from tests.inference.serving import Server
from tests.inference.test_gateway import records
from tests.inference.test_transcripts import call
from tests.product import wait_for

SMALL = {"name": "small", "options": {"num_ctx": 512, "num_predict": 3, "temperature": 0.0}}
SLOW = {"name": "slow", "parallel": 1}


@pytest.fixture
def gateway(engine: Server, own_valkey: ValkeyServer) -> Iterator[Server]:
    with start(engine, own_valkey) as server:
        yield server


def context_of(engine: Server, model: str) -> int | None:
    loaded = json.loads(call(engine.url, "GET", "/api/ps", {}, None).body)["models"]
    return next((each["context_length"] for each in loaded if each["name"] == full_name(model)), None)


# --- what a profile does to a request ---------------------------------------------------------------------


def test_open_options_are_filled_and_own_ones_stay() -> None:
    profile = Profile("p", {"num_ctx": 1024, "num_predict": 9, "top_p": 0.5})
    values = {"model": "m", "options": {"num_ctx": 2048, "top_p": None, "stop": ["x"]}}
    assert fill(profile, "/api/chat", values) == {
        "options": {"num_ctx": 2048, "num_predict": 9, "top_p": 0.5, "stop": ["x"]}
    }
    assert fill(profile, "/api/generate", {"options": dict(profile.options)}) == {}
    assert fill(NONE, "/api/generate", {}) == {}


def test_limits_hold_what_a_request_asks() -> None:
    profile = Profile("p", {"num_thread": 2}, max_threads=2, gpu=False)
    asked = {"options": {"num_thread": 16, "num_gpu": 99}}
    assert fill(profile, "/api/generate", asked) == {"options": {"num_thread": 2, "num_gpu": 0}}
    modest = {"options": {"num_thread": 1, "num_gpu": 0}}
    assert fill(profile, "/api/generate", modest) == {}
    assert fill(profile, "/api/generate", {}, one_thread=True) == {"options": {"num_gpu": 0}}


def test_openai_s_names_are_used_and_the_newer_name_of_a_length_counts() -> None:
    profile = Profile("p", {"num_ctx": 512, "num_predict": 9, "temperature": 0.5})
    fields = fill(profile, "/v1/chat/completions", {"temperature": 1})
    assert fields == {"max_tokens": 9, "options": {"num_ctx": 512}}
    assert fill(profile, "/v1/chat/completions", {"max_completion_tokens": 70})["max_tokens"] == 70
    assert fill(profile, "/v1/completions", {"options": [1]})["options"] == {"num_ctx": 512}
    assert fill(profile, "/v1/responses", {})["max_output_tokens"] == 9
    assert fill(profile, "/v1/embeddings", {}) == {"options": {"num_ctx": 512}}
    assert fill(profile, "/api/embed", {}) == {"options": {"num_ctx": 512}}


def test_options_of_a_wrong_type_are_the_engine_s_to_refuse(gateway: Server, own_store: redis.Redis) -> None:
    assert hand_over(own_store, SMALL) == "ok"
    assert generate(gateway, options=[1]).status == 400
    assert generate(gateway, options={"num_ctx": "x"}).status == 500
    assert call(gateway.url, "POST", "/api/generate", {}, b"[1]").status == 400
    assert call(gateway.url, "POST", "/api/generate", {}, b"\xff\xfe{").status == 400


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text(max_size=6), JSON, max_size=4),
    st.dictionaries(st.text(max_size=6), JSON, min_size=1),
)
def test_spliced_fields_count_and_all_others_stay(values: dict[str, Any], fields: dict[str, Any]) -> None:
    for body in (json.dumps(values).encode(), b" " + json.dumps(values, indent=2).encode() + b"\n "):
        assert json.loads(splice(body, values, fields)) == {**values, **fields}
    assert json.loads(splice(json.dumps(values).encode("utf-16"), values, fields)) == {**values, **fields}


def test_a_small_model_is_what_the_engine_calls_small() -> None:
    assert ONE_THREAD_BYTES == SMALL_MODEL_BYTES


# --- turns ------------------------------------------------------------------------------------------------


async def test_turns_come_in_order_and_never_more_run_than_allowed() -> None:
    gate, limit = Gate(max_waiting=100), 2
    done: list[int] = []
    most = 0

    async def request(number: int) -> None:
        nonlocal most
        async with gate.turn("m", lambda: limit):
            most = max(most, gate.running["m"])
            await asyncio.sleep(0)
            done.append(number)

    await asyncio.gather(*(request(number) for number in range(20)))
    assert done == list(range(20))
    assert most == 2
    assert not gate.running
    assert gate.n_waiting == 0


async def test_a_larger_limit_lets_those_who_wait_in_at_once() -> None:
    gate, limits, leave = Gate(max_waiting=100), [1], asyncio.Event()

    async def request() -> None:
        async with gate.turn("m", lambda: limits[0]):
            await leave.wait()

    tasks = [asyncio.create_task(request()) for _ in range(5)]
    await asyncio.sleep(0)
    assert (gate.running["m"], gate.n_waiting) == (1, 4)
    limits[0] = 4
    gate.recheck()
    assert (gate.running["m"], gate.n_waiting) == (4, 1)
    leave.set()
    await asyncio.gather(*tasks)
    assert not gate.running


async def test_too_many_who_wait_are_refused() -> None:
    gate, leave = Gate(max_waiting=1), asyncio.Event()

    async def request() -> None:
        async with gate.turn("m", lambda: 1):
            await leave.wait()

    tasks = [asyncio.create_task(request()) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyWaitingError, match="maximum pending requests exceeded"):
        await tasks[2]
    leave.set()
    await asyncio.gather(*tasks[:2])


@example([("come", 0), ("come", 1), ("go", 2), ("cancel", 1)])  # let in and gone in the same moment
@given(
    st.lists(st.tuples(st.sampled_from(["come", "go", "cancel", "limit"]), st.integers(0, 9)), max_size=40)
)
def test_a_gate_loses_no_place_whatever_happens(steps: list[tuple[str, int]]) -> None:
    async def play() -> None:
        gate, limits = Gate(max_waiting=5), [1]
        doors: list[tuple[asyncio.Task[None], asyncio.Event]] = []

        async def request(leave: asyncio.Event) -> None:
            async with gate.turn("m", lambda: limits[0] or None):
                await leave.wait()

        for what, number in steps:
            if what == "come":
                leave = asyncio.Event()
                doors.append((asyncio.create_task(request(leave)), leave))
            elif what == "limit":
                limits[0] = number % 4
                gate.recheck()
            elif doors:
                task, leave = doors[number % len(doors)]
                leave.set() if what == "go" else task.cancel()
            if number % 3:
                await asyncio.sleep(0)
            assert gate.n_waiting >= 0
        for _, leave in doors:
            leave.set()
        await asyncio.gather(*(task for task, _ in doors), return_exceptions=True)
        assert not gate.running
        assert gate.n_waiting == 0
        async with gate.turn("m", lambda: 1) as waited:  # still open
            assert not waited

    asyncio.run(play())


# --- with the real engine ---------------------------------------------------------------------------------


def test_options_arrive_and_the_answer_says_which_profile(
    gateway: Server, engine: Server, own_store: redis.Redis
) -> None:
    assert generate(gateway).headers["x-aicleaner-profile"] == "none"
    assert hand_over(own_store, SMALL) == "ok"
    answer = generate(gateway)
    assert answer.headers["x-aicleaner-profile"] == "small"
    assert json.loads(answer.body)["eval_count"] == 3
    assert json.loads(answer.body)["done_reason"] == "length"
    assert context_of(engine, "aicleaner-sample") == 512
    own = generate(gateway, options={"num_predict": 5, "num_ctx": 256})
    assert json.loads(own.body)["eval_count"] == 5
    assert context_of(engine, "aicleaner-sample") == 256
    assert hand_over(own_store, None) == "ok"
    free = generate(gateway, options={"seed": 1})
    assert json.loads(free.body)["done_reason"] == "stop"
    assert [each["profile"] for each in records(own_store, 4)] == [None, "small", "small", None]


def test_openai_s_api_takes_them_too(gateway: Server, engine: Server, own_store: redis.Redis) -> None:
    hand_over(own_store, SMALL)
    body = {"model": "aicleaner-sample", "messages": [{"role": "user", "content": ROOM}]}
    answer = call(gateway.url, "POST", "/v1/chat/completions", {}, body)
    assert json.loads(answer.body)["usage"]["completion_tokens"] == 3
    assert context_of(engine, "aicleaner-sample") == 512
    assert "x-aicleaner-profile-ignored" not in answer.headers
    own = call(gateway.url, "POST", "/v1/chat/completions", {}, {**body, "max_tokens": 4})
    assert json.loads(own.body)["usage"]["completion_tokens"] == 4


def test_what_ollama_s_openai_api_has_no_place_for_is_said(
    engine: Server, own_valkey: ValkeyServer, own_store: redis.Redis
) -> None:
    with Server(
        "inference.gateway", "--valkey", own_valkey.url, "--engine", f"ollama={engine.url}"
    ) as gateway:
        hand_over(own_store, SMALL)
        body = {"model": "tiny-script", "messages": [{"role": "user", "content": "x"}]}
        answer = call(gateway.url, "POST", "/v1/chat/completions", {}, body)
        assert answer.headers["x-aicleaner-profile-ignored"] == "num_ctx"
        native = call(gateway.url, "POST", "/api/chat", {}, body)
        assert "x-aicleaner-profile-ignored" not in native.headers


def test_a_request_can_choose_its_profile(gateway: Server, own_store: redis.Redis) -> None:
    hand_over(own_store, SMALL, {"name": "longer", "options": {"num_predict": 6}})
    chosen = generate(gateway, {"x-aicleaner-profile": "longer"})
    assert (chosen.headers["x-aicleaner-profile"], json.loads(chosen.body)["eval_count"]) == ("longer", 6)
    free = generate(gateway, {"x-aicleaner-profile": "none"})
    assert free.headers["x-aicleaner-profile"] == "none"
    assert json.loads(free.body)["done_reason"] == "stop"
    unknown = generate(gateway, {"x-aicleaner-profile": "nope"})
    assert unknown.status == 400
    assert "profile 'nope' not found; known: longer, small" in json.loads(unknown.body)["error"]
    openai = call(gateway.url, "POST", "/v1/completions", {"x-aicleaner-profile": "nope"}, {"model": "x"})
    assert openai.status == 400
    assert set(json.loads(openai.body)["error"]) == {"message", "type", "param", "code"}
    assert records(own_store, 4)[2]["error"].startswith("x-aicleaner-profile: profile 'nope'")


def test_what_is_no_profile_changes_nothing_and_is_answered(gateway: Server, own_store: redis.Redis) -> None:
    hand_over(own_store, SMALL)
    assert "can't read the profile" in hand_over(own_store, {"name": "x", "nonsense": 1})
    assert generate(gateway).headers["x-aicleaner-profile"] == "small"


def test_a_limit_of_one_lets_others_wait_and_refuses_more_than_the_queue_holds(
    engine: Server, own_valkey: ValkeyServer, own_store: redis.Redis
) -> None:
    with start(engine, own_valkey, "--max-queue", "2") as gateway:
        hand_over(own_store, SLOW)
        answers: list[Any] = []
        fields: dict[str, Any] = {
            "model": "tiny-repeat",
            "options": {"num_predict": 25, "repeat_penalty": 1.0},
        }
        threads = [
            threading.Thread(target=lambda: answers.append(generate(gateway, **fields))) for _ in range(8)
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        refused = [each for each in answers if each.status == 503]
        assert len([each for each in answers if each.status == 200]) + len(refused) == 8
        assert refused
        assert "server busy, please try again.  maximum pending" in json.loads(refused[0].body)["error"]
        waited = [each["queue_ms"] for each in records(own_store, 8) if each["status"] == 200]
        assert len(waited) >= 3


def test_switching_while_many_run_loses_none(
    own_valkey: ValkeyServer, own_store: redis.Redis, chain_models: dict[str, Path], tmp_path: Path
) -> None:
    seed = ("--models", str(tmp_path), "--seed-model", f"tiny-script={chain_models['tiny-script']}")
    with Server("inference.engine", *seed) as engine, start(engine, own_valkey) as gateway:
        hand_over(own_store, {"name": "two", "parallel": 2})
        answers: list[Any] = []

        def ask() -> None:
            answers.extend(generate(gateway, model="tiny-script") for _ in range(3))

        threads = [threading.Thread(target=ask) for _ in range(32)]
        for each in threads:
            each.start()
        # some of these load the model anew, with requests on their way
        for profile in (SLOW, {"name": "eight", "parallel": 8}, SMALL, None, {"name": "two", "parallel": 2}):
            assert hand_over(own_store, profile) == "ok"
        for each in threads:
            each.join()
    assert [each.status for each in answers] == [200] * 96
    assert all(json.loads(each.body)["done"] for each in answers)


def test_a_gateway_that_starts_anew_has_the_profile_at_once(
    engine: Server, own_valkey: ValkeyServer, own_store: redis.Redis
) -> None:
    own_store.set(PROFILES.key, json.dumps({"active": SMALL, "profiles": [SMALL]}))
    with start(engine, own_valkey) as gateway:
        assert generate(gateway).headers["x-aicleaner-profile"] == "small"


def test_while_valkey_is_away_the_profile_stays_and_the_next_is_found_after(engine: Server) -> None:
    folder = Path(tempfile.mkdtemp(prefix="aic-v-"))
    first = ValkeyServer(folder / "v.sock")
    with first, redis.from_url(first.url) as own_store:
        gateway = start(engine, first)
        gateway.__enter__()
        hand_over(own_store, SMALL)
    try:
        assert generate(gateway).headers["x-aicleaner-profile"] == "small"
        with ValkeyServer(folder / "v.sock") as again, redis.from_url(again.url) as own_store:
            own_store.set(PROFILES.key, json.dumps({"active": SLOW, "profiles": [SLOW]}))
            wait_for(
                lambda: generate(gateway).headers["x-aicleaner-profile"] == "slow",
                "the gateway has found the profile of the new Valkey",
            )
            assert hand_over(own_store, SMALL) == "ok"
            assert generate(gateway).headers["x-aicleaner-profile"] == "small"
    finally:
        gateway.__exit__()


def test_above_the_memory_limit_the_least_recently_used_idle_model_goes(
    gateway: Server, engine: Server, own_store: redis.Redis
) -> None:
    for model in ("tiny-script", "tiny-think"):
        generate(gateway, model=model)
    for model in ("aicleaner-sample", "tiny-utf8", "tiny-repeat"):
        call(engine.url, "POST", "/api/generate", {}, {"model": model, "keep_alive": 0})
    assert context_of(engine, "tiny-script")
    assert context_of(engine, "tiny-think")
    hand_over(own_store, {"name": "tight", "memory_bytes": 1})
    wait_for(lambda: context_of(engine, "tiny-script") is None, "the older model is unloaded")
    assert context_of(engine, "tiny-think")  # one alone stays, above the limit or not


def test_a_big_body_keeps_its_picture(gateway: Server, own_store: redis.Redis) -> None:
    hand_over(own_store, SMALL)
    answer = generate(gateway, images=[base64.b64encode(bytes(150_000)).decode()])
    assert answer.status == 400  # the sample model takes no pictures, and says so: it arrived
    assert "multimodal" in json.loads(answer.body)["error"]
    assert records(own_store, 1)[0]["request_bytes"] > 200_000
