"""The detector of cut prompts: by its rule, by what a real Ollama answered, and on the real engine."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from aicleaner_site.valkey import ValkeyServer
from inference import services
from inference.gateway.loads import kept_tokens, load_options
from inference.gateway.meter import INFERENCE
from inference.gateway.prompts import prompt_bytes
from inference.models import InferenceRequest
from inference.truncation import Cut, Density, Seen, density, judge, teaches
from tests.inference import gateways
from tests.inference.serving import Server
from tests.inference.test_transcripts import call
from tests.product import wait_for

TRANSCRIPTS = sorted(Path(__file__).with_name("transcripts").glob("*.json"))
DEFAULT_CTX = 4096  # of the recorded server
CUT = {
    "chat-longer-than-num_ctx",
    "generate-prompt-longer-than-num_ctx",
    "generate-raw-prompt-longer-than-num_ctx",
    "generate-raw-prompt-longer-stream",
}
ENGLISH = Density(3.9, 4.4)
SENTENCE = "Room: kitchen. Seen: dirty dishes in the sink; crumbs on the floor; a wet towel on the chair. "


def recorded() -> list[Any]:
    """(whether it was cut, what the gateway sees of it) of each recorded answer with a count of its prompt."""
    found = []
    for file in TRANSCRIPTS:
        case = json.loads(file.read_text())
        asked, answer = case.get("request") or {}, case.get("response") or {}
        path, body = asked.get("path"), asked.get("body")
        if path not in INFERENCE or not isinstance(body, dict) or answer.get("status") != 200:
            continue
        lines = [each.get("raw") or each.get("line") for each in answer.get("stream_lines", [])]
        text = lines[-1].removeprefix("data: ") if lines else answer.get("body_raw") or "{}"
        try:
            last = json.loads(text)
        except ValueError:
            continue
        count = last.get("prompt_eval_count") or (last.get("usage") or {}).get("prompt_tokens")
        options = {} if path.startswith("/v1/") else load_options(body)
        seen = Seen(
            INFERENCE[path][0],
            prompt_bytes(body),
            count,
            options.get("num_ctx", DEFAULT_CTX),
            kept_tokens(body),
        )
        if count:
            found.append(pytest.param(file.stem in CUT, seen, id=file.stem))
    return found


RECORDED = recorded()


def test_the_recordings_hold_cut_prompts_and_many_whole_ones() -> None:
    assert sum(each.values[0] for each in RECORDED) == len(CUT)
    assert len(RECORDED) > 30


@pytest.mark.parametrize(("was_cut", "seen"), RECORDED)
def test_a_recorded_prompt_is_judged_as_it_was(was_cut: bool, seen: Seen) -> None:
    """At the density of the recorded model: 2,817 tokens, said its error, of the 10,000 bytes that it refused."""
    refused = json.loads((TRANSCRIPTS[0].parent / "generate-prompt-longer-truncate-false.json").read_text())
    sent = prompt_bytes(refused["request"]["body"])
    verdict, why = judge(seen, Density(sent / 2817, sent / 2817))
    assert (verdict == Cut.LIKELY) == was_cut
    assert bool(why) == was_cut


@pytest.mark.parametrize(
    ("seen", "usual", "verdict"),
    [
        # A cut leaves 4 + (4096 - 4) / 2 tokens; one that just fits, and one that happens to have as many, are whole.
        (Seen("generate", 40_000, 2050, 4096, 4), ENGLISH, Cut.LIKELY),
        (Seen("generate", 16_000, 4000, 4096, 4), ENGLISH, Cut.NO),
        (Seen("generate", 8_000, 2050, 4096, 4), ENGLISH, Cut.NO),
        # num_keep moves the mark; older servers fill the context.
        (Seen("generate", 40_000, 2098, 4096, 100), ENGLISH, Cut.LIKELY),
        (Seen("generate", 40_000, 2098, 4096, 4), ENGLISH, Cut.NO),
        (Seen("generate", 40_000, 4096, 4096, 4), ENGLISH, Cut.LIKELY),
        # A chat loses older messages: any number may be left.
        (Seen("chat", 40_000, 37, 4096, 4), ENGLISH, Cut.LIKELY),
        (Seen("chat", 40_000, 9_000, 16_384, 4), ENGLISH, Cut.NO),
        # Between the usual and the least number of tokens it can be either.
        (Seen("generate", 17_000, 2050, 4096, 4), ENGLISH, Cut.POSSIBLE),
        # Requests of a few bytes and a long template say little about long ones.
        (Seen("chat", 10_000, 2_500, 4096, 4), Density(0.5, 0.8), Cut.NO),
        # No context known: only a density beyond all others tells.
        (Seen("chat", 40_000, 1_000, None, 4), ENGLISH, Cut.POSSIBLE),
        (Seen("chat", 40_000, 10_000, None, 4), ENGLISH, Cut.NO),
        (Seen("chat", 40_000, 1_000, None, 4), None, Cut.UNKNOWN),
        # Nothing known of the model.
        (Seen("generate", 40_000, 2050, 4096, 4), None, Cut.POSSIBLE),
        (Seen("generate", 40_000, 2051, 4096, 4), None, Cut.POSSIBLE),
        (Seen("generate", 40_000, 2060, 4096, 4), None, Cut.UNKNOWN),
        (Seen("generate", 400, 100, 4096, 4), None, Cut.NO),
        # An embedding is cut to the context.
        (Seen("embed", 9_000, 512, 512, None), ENGLISH, Cut.LIKELY),
        (Seen("embed", 9_000, 258, 512, None), ENGLISH, Cut.NO),
        (Seen("chat", None, 100, 4096, 4), ENGLISH, Cut.UNKNOWN),
        (Seen("chat", 100, None, 4096, 4), ENGLISH, Cut.UNKNOWN),
    ],
)
def test_the_rule(seen: Seen, usual: Density | None, verdict: Cut) -> None:
    assert judge(seen, usual)[0] == verdict


@given(
    st.integers(1, 200_000),
    st.floats(2.5, 5.5),
    st.integers(256, 131_072),
    st.sampled_from(["chat", "generate"]),
)
def test_a_prompt_that_fits_is_never_said_to_be_likely_cut(
    tokens: int, bytes_per_token: float, num_ctx: int, kind: str
) -> None:
    """Whatever the language, as long as the model's own figure is that of its requests."""
    if tokens >= num_ctx:
        return
    seen = Seen(kind, int(tokens * bytes_per_token), tokens, num_ctx, 4)
    assert judge(seen, Density(bytes_per_token, bytes_per_token))[0] != Cut.LIKELY


def test_density_is_of_enough_requests_of_some_length_that_fit() -> None:
    assert density([(400, 100)] * 4) is None
    assert density([(10, 20)] * 50) is None
    assert density([(400, 100)] * 9 + [(500, 100)]) == Density(4.0, 5.0)
    assert density([(400, 100)] * 8 + [(40_000, 100)] * 2) == Density(
        4.0, 8.0
    )  # cut ones must not set the scale
    assert teaches(1000, 4096)
    assert not teaches(20_000, 4096)


@pytest.fixture
def gateway(engine: Server, own_valkey: ValkeyServer) -> Iterator[Server]:
    with gateways.start(engine, own_valkey) as server:
        yield server


def stored(store: redis.Redis, n: int) -> list[InferenceRequest]:
    def count() -> int:
        services.store_request_records(store)
        return InferenceRequest.objects.count()

    wait_for(lambda: count() >= n, f"{n} requests are stored", 10)
    return list(InferenceRequest.objects.order_by("at"))


@pytest.mark.django_db
def test_the_real_engine_cuts_without_a_word_and_the_log_says_so(
    gateway: Server, own_store: redis.Redis
) -> None:
    for n in range(6):
        text = f"{n}. " + SENTENCE * 3
        gateways.generate(gateway, prompt=text, options={"num_ctx": 512, "num_predict": 4})
    assert {row.truncated for row in stored(own_store, 6)} <= {"", "no"}
    gateways.generate(gateway, prompt=SENTENCE * 30, options={"num_ctx": 256, "num_predict": 4})
    gateways.generate(gateway, prompt=SENTENCE * 3, options={"num_ctx": 256, "num_predict": 4})
    messages = [{"role": "user", "content": SENTENCE * 4} for _ in range(8)]
    body = {"model": "aicleaner-sample", "messages": messages, "stream": False, "options": {"num_ctx": 256}}
    call(gateway.url, "POST", "/api/chat", {}, body)
    streamed: dict[str, Any] = {
        "prompt": SENTENCE * 30,
        "stream": True,
        "options": {"num_ctx": 256, "num_predict": 4},
    }
    gateways.generate(gateway, **streamed)
    cut, whole, chat, stream = stored(own_store, 10)[6:]
    assert (cut.truncated, cut.prompt_tokens, cut.num_ctx) == ("likely", 130, 256)
    assert cut.prompt_bytes == len(SENTENCE * 30)
    assert "num_ctx is 256" in cut.truncated_why
    assert (whole.truncated, chat.truncated, stream.truncated) == ("no", "likely", "likely")


@pytest.mark.django_db
def test_the_context_that_the_engine_chose_is_learnt_from_it(
    engine: Server, own_valkey: ValkeyServer, own_store: redis.Redis
) -> None:
    """A request that names no num_ctx: /api/ps tells it."""
    with gateways.start(engine, own_valkey) as gateway:

        def ask() -> bool:
            gateways.generate(gateway, options={"num_predict": 1})
            services.store_request_records(own_store)
            newest = InferenceRequest.objects.first()
            return newest is not None and newest.num_ctx is not None

        wait_for(ask, "the context is known", 20)
    loaded = json.loads(call(engine.url, "GET", "/api/ps", {}, None).body)["models"]
    (told,) = [each["context_length"] for each in loaded if each["name"] == "aicleaner-sample:latest"]
    newest = InferenceRequest.objects.first()
    assert newest is not None
    assert newest.num_ctx == told
    assert newest.load_options == {"num_ctx": told}
