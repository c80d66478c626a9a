"""Figures, reloads and context sizes of the request log: the sums, their bounds, and the words."""

from typing import Any

import numpy as np
import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from inference.models import InferenceRequest
from inference.request_log import contexts, memory, story
from inference.request_log.figures import figures
from inference.request_log.reloads import flips, reloads
from inference.request_log.statistics import Share, percentiles
from inference.templatetags.inference import ms, number, percent, size
from tests.inference.logged import make_request, store, store_many
from tests.inference.serving import Server

ALL = InferenceRequest.objects.all


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_of_a_share_is_wilson_s(counts: tuple[int, int]) -> None:
    k, n = counts
    expected = binomtest(k, n).proportion_ci(method="wilson")
    assert Share(k, n).interval == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_no_share_of_nothing() -> None:
    assert Share(0, 0).value is None
    assert Share(0, 0).interval is None


@pytest.mark.parametrize(
    ("n", "known"), [(0, []), (1, [50]), (99, [50]), (100, [50, 95]), (999, [50, 95]), (1000, [50, 95, 99])]
)
def test_no_percentile_of_too_few(n: int, known: list[int]) -> None:
    found = percentiles([float(each) for each in range(n)])
    assert [place for place, value in found.values if value is not None] == known
    assert found.n == n


def test_the_tail_of_what_is_good_when_high_is_the_low_one() -> None:
    values = [float(each) for each in range(1, 1001)]
    assert dict(percentiles(values, high_is_good=True).values) == {
        50: np.percentile(values, 50),
        5: np.percentile(values, 5),
        1: np.percentile(values, 1),
    }


@pytest.mark.django_db
def test_figures_by_model_profile_and_client() -> None:
    store_many(
        120, model="llama", profile="fast", client="home", total_ms=100.0, eval_ms=1000.0, output_tokens=50
    )
    store_many(30, model="qwen", client="report", total_ms=700.0, ttft_ms=None)
    store_many(2, model="qwen", client="report", failed=True, error="CUDA error", total_ms=90_000.0)
    store_many(1, model="qwen", client="", failed=True, status=403, total_ms=1.0)
    store_many(4, model="llama", cache="hit", total_ms=0.2, ttft_ms=0.1, eval_ms=None)
    found = figures(ALL())
    assert not found.bounded
    assert (found.whole.errors.k, found.whole.errors.n, found.n_hits) == (3, 157, 4)
    by = {what: {group.name: group for group in groups} for what, _, groups, _ in found.by}
    assert {name: group.errors.n for name, group in by["model"].items()} == {"llama": 124, "qwen": 33}
    assert {name: group.errors.n for name, group in by["profile"].items()} == {"": 37, "fast": 120}
    assert {name: group.errors.n for name, group in by["client"].items()} == {
        "home": 124,
        "report": 32,
        "": 1,
    }
    llama = {label: dict(each.values) for label, _, each in by["model"]["llama"].metrics}
    assert llama["Total"] == {50: 100.0, 95: 100.0, 99: None}  # answers of the cache are left out
    assert llama["Tokens/s"] == {50: 50.0, 5: 50.0, 1: None}
    qwen = {label: each for label, _, each in by["model"]["qwen"].metrics}
    assert qwen["Total"].n == 30  # an error is no answer
    assert [row.total_ms for row in found.slowest[:3]] == [90_000.0, 90_000.0, 700.0]
    assert [(each.text, each.n) for each in found.error_texts] == [
        ("CUDA error", 2),
        ("HTTP 403 without a text", 1),
    ]


@pytest.mark.django_db
def test_figures_of_more_than_are_read_say_so(client: Client) -> None:
    store_many(30)
    found = figures(ALL(), read=20)
    assert found.bounded
    assert found.whole.errors.n == 20
    assert found.oldest == ALL()[19].at
    assert not figures(ALL(), read=30).bounded


@pytest.mark.django_db
def test_who_flips_which_option_at_what_cost() -> None:
    change: dict[str, Any] = {"reloaded": True, "load_ms": 1500.0}
    small, large = {"num_ctx": 4096}, {"num_ctx": 8192}
    for n in range(3):
        store(
            make_request(
                ago=n,
                client="home",
                load_options=small,
                previous_options=large,
                previous_client="report",
                **change,
            ),
            make_request(
                ago=n,
                client="report",
                load_options=large,
                previous_options=small,
                previous_client="home",
                **change,
            ),
        )
    store(
        make_request(load_options={"num_gpu": 0, **small}, previous_options=small, **change),
        make_request(load_options=large, previous_options=small, reloaded=True, load_ms=None, client="v1"),
        make_request(load_ms=800.0),
        make_request(
            model="qwen", load_options={}, previous_options={"shift": False}, reloaded=True, load_ms=60.0
        ),
    )
    found = reloads(ALL())
    assert (found.n, found.bounded, found.lost_ms) == (9, False, 7 * 1500.0 + 60.0)
    assert (found.n_loads, found.loads_ms, found.n_looked_at) == (1, 800.0, 10)
    context, gpu, shift = found.flips
    assert (context.model, context.options, context.n, context.n_untold) == (
        "llama",
        (("num_ctx", "4096", "8192"),),
        7,
        1,
    )
    sides = {side: dict(clients) for side, clients in context.sides}
    assert sides == {"num_ctx 4096": {"home": 3, "unknown": 0}, "num_ctx 8192": {"report": 3, "v1": 1}}
    assert "8192 holds both, by a profile" in context.advice
    assert gpu.options == (("num_gpu", "0", "left open"),)
    assert "same num_gpu, or none" in gpu.advice
    assert shift.options == (("shift", "false", "left open"),)
    assert "no profile sets it" in shift.advice


def test_both_ways_of_a_flip_are_one() -> None:
    there = make_request(load_options={"num_ctx": 900, "num_batch": 64}, previous_options={"num_ctx": 4096})
    back = make_request(load_options={"num_ctx": 4096}, previous_options={"num_ctx": 900, "num_batch": 64})
    (flip,) = flips([there, back])
    assert flip.options == (("num_batch", "64", "left open"), ("num_ctx", "900", "4096"))
    assert flip.n == 2
    assert {side: sum(n for _, n in clients) for side, clients in flip.sides} == {
        "num_batch 64, num_ctx 900": 1,
        "num_batch left open, num_ctx 4096": 1,
    }


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [(1, 512), (512, 512), (513, 768), (2885, 3072), (98_305, 131_072), (10**6, 131_072)],
)
def test_steps_are_the_usual_sizes(tokens: int, expected: int) -> None:
    assert contexts.step(tokens) == expected
    assert list(contexts.STEPS) == sorted(set(contexts.STEPS))


@pytest.mark.django_db
def test_a_context_is_proposed_from_enough_lengths() -> None:
    store(*(make_request(ago=n, model="few", prompt_tokens=100) for n in range(99)))
    store(*(make_request(ago=n, model="some", prompt_tokens=100 + n, output_tokens=0) for n in range(100)))
    store(
        *(
            make_request(ago=n, model="many", prompt_tokens=1 + n, output_tokens=9, num_ctx=512)
            for n in range(1000)
        )
    )
    store(make_request(model="embed", kind="embed"), make_request(model="failed", failed=True))
    found = {each.model: each for each in contexts.contexts(ALL()).models}
    assert set(found) == {"few", "some", "many"}
    assert (found["few"].proposed, found["few"].by) == (None, "100 requests are needed")
    assert (found["some"].needed, found["some"].by, found["some"].proposed) == (199, "the largest", 512)
    many = found["many"]
    assert (many.needed, many.by, many.proposed) == (1000, "p99", 1536)  # 999.01, and 15 %: 1150
    assert (many.in_force, many.n_over_now, many.n_over, many.longest) == (512, 497, 0, 1009)


@pytest.mark.django_db
def test_a_cut_prompt_counts_with_the_length_that_it_would_have_had() -> None:
    store(*(make_request(ago=n, prompt_bytes=400, prompt_tokens=100, output_tokens=0) for n in range(200)))
    store(make_request(ago=999, prompt_bytes=40_000, prompt_tokens=2050, output_tokens=0, truncated="likely"))
    (found,) = contexts.contexts(ALL()).models
    assert (found.n, found.n_cut, found.n_estimated) == (201, 1, 1)
    assert (found.longest, found.proposed, found.n_over_now) == (10_000, 12_288, 1)


def test_memory_of_a_context_is_that_of_keys_and_values() -> None:
    llama = {
        "general.architecture": "llama",
        "llama.block_count": 32,
        "llama.embedding_length": 4096,
        "llama.attention.head_count": 32,
        "llama.attention.head_count_kv": 8,
        "llama.context_length": 8192,
    }
    assert memory.bytes_per_token(llama) == 131_072  # Llama 3 8B: 1 GiB at 8,192
    assert memory.trained_length(llama) == 8192
    wide = {**llama, "llama.attention.key_length": 64, "llama.attention.value_length": 32}
    assert memory.bytes_per_token(wide) == 32 * 8 * 96 * 2
    for broken in (
        {},
        {**llama, "llama.attention.head_count_kv": None},
        {**llama, "llama.ssm.state_size": 16},
    ):
        with pytest.raises(memory.UnknownMemoryError):
            memory.bytes_per_token(broken)


@pytest.mark.django_db
def test_the_real_engine_tells_the_shape_of_a_model(client: Client, settings: Any, engine: Server) -> None:
    client.force_login(User.objects.create_user("anna"))
    settings.GATEWAY_URL = engine.url
    asked = {"model": "aicleaner-sample", "now": "256", "then": "1024"}
    shown = " ".join(client.get("/requests/contexts/memory/", asked).content.decode().split())
    each = memory.bytes_per_token(async_to_sync(memory.model_info)("aicleaner-sample"))
    assert f"{size(each * 256)} → {size(each * 1024)}" in shown
    assert "the model was trained for 512" in shown
    unknown = client.get("/requests/contexts/memory/", {**asked, "model": "nope"})
    assert b"does not have this model" in unknown.content


@pytest.mark.django_db
def test_the_memory_of_a_model_that_nobody_can_tell_is_said_to_be_unknown(
    client: Client, settings: Any
) -> None:
    client.force_login(User.objects.create_user("anna"))
    settings.GATEWAY_URL = "http://127.0.0.1:1"
    where = "/requests/contexts/memory/"
    assert (
        b"the gateway does not answer" in client.get(where, {"model": "m", "now": "1", "then": "2"}).content
    )
    assert client.get(where, {"model": "m", "now": "x", "then": "2"}).status_code == 400


@pytest.mark.django_db
def test_pages_say_figures_costs_and_sizes(client: Client) -> None:
    client.force_login(User.objects.create_user("anna"))
    now = timezone.now()
    store(*(make_request(at=now, client="home", model="llama", total_ms=1234.0) for _ in range(120)))
    store(make_request(at=now, failed=True, status=500, error="CUDA <error>"))
    store(
        make_request(
            at=now,
            load_options={"num_ctx": 8192},
            previous_options={"num_ctx": 4096},
            reloaded=True,
            load_ms=2000.0,
        )
    )

    def words(path: str) -> str:
        return " ".join(client.get(path).content.decode().split())

    shown = words("/requests/figures/")
    for each in ("122 requests", "1 of 122", "0.1 % to 4.5 %", "1.23 s", "CUDA &lt;error&gt;"):
        assert each in shown, each
    shown = words("/requests/reloads/")
    for each in (
        '<b class="num">1</b> reload cost <b class="num">2 s</b>',
        "num_ctx 8192",
        "/tuning/profiles/",
    ):
        assert each in shown, each
    shown = words("/requests/contexts/")
    for each in (
        "the largest 120 and 15 %",
        "all 121 would fit",
        "4,096",
        "/requests/contexts/memory/?model=llama",
    ):
        assert each in shown, each
    assert "in the profile in use" not in shown  # who may not change it is led to the profiles
    client.force_login(User.objects.create_superuser("boss"))
    assert "Set it in the profile in use" in words("/requests/contexts/")


def test_the_parts_of_a_request_add_up_to_its_total() -> None:
    found = story.parts(
        make_request(queue_ms=100, load_ms=200, prompt_eval_ms=300, eval_ms=300, total_ms=1000.0)
    )
    assert [part.label for part in found][-1] == "the rest"
    assert sum(part.ms for part in found) == pytest.approx(1000)
    assert sum(part.share for part in found) == pytest.approx(1)
    odd = story.parts(
        make_request(queue_ms=None, load_ms=None, prompt_eval_ms=900, eval_ms=300, total_ms=1000.0)
    )
    assert sum(part.share for part in odd) == pytest.approx(1)  # clocks differ
    assert story.parts(make_request(queue_ms=0, load_ms=None, prompt_eval_ms=None, eval_ms=None)) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ms(None), "–"),
        (ms(0.0), "0 ms"),
        (ms(0.517), "0.517 ms"),
        (ms(99.97), "100 ms"),
        (ms(999.6), "1000 ms"),
        (ms(1234.5), "1.23 s"),
        (ms(99_999), "100 s"),
        (ms(123_456), "123 s"),
        (number(None), "–"),
        (number(1234), "1,234"),
        (number(31.415), "31.4"),
        (number(999.9), "1,000"),
        (size(None), "–"),
        (size(1000), "1000 B"),
        (size(1023 * 1024), "1,023 KiB"),
        (size(1.5 * 2**30), "1.50 GiB"),
        (percent(None), "–"),
        (percent(0.0), "0 %"),
        (percent(0.0123), "1.2 %"),
        (percent(0.5), "50 %"),
    ],
)
def test_figures_in_words(text: str, expected: str) -> None:
    assert text == expected
