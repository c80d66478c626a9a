"""Which model's slot is stuck, by what is seen of its requests and of the engine's runners."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from inference.gateway.eviction import Key
from inference.gateway.slots import QUIET_S, UNSEEN, Slots, ollama_runners_cpu_s
from tests.product import wait_for

M, OTHER = ("http://ollama", "m:latest"), ("http://ollama", "n:latest")


class Story:
    """A model whose client has left amid an answer, and a request that waits since second 10."""

    def __init__(self, cpu_s: Callable[[float], float] = lambda now: 7.0) -> None:
        self.now, self.cpu_s = 0.0, cpu_s
        self.slots = Slots()
        self.slots.asked(M, "first", 0.0)
        self.slots.answers(M, "first")
        self.slots.ended(M, "first", finished=False, left=True)
        self.slots.asked(M, "second", 10.0)

    def look(self, seconds: float, *, here: bool = True) -> list[float]:
        """At which of the next seconds it was found stuck."""
        found = []
        end = self.now + seconds
        while self.now < end:
            self.now += 1.0
            if self.stuck(here=here):
                found.append(self.now)
        return found

    def stuck(self, *, here: bool = True) -> dict[Key, int]:
        suspects = self.slots.suspects({M, OTHER})
        return self.slots.stuck(suspects, self.now, self.cpu_s(self.now), lambda key: here)


def test_a_request_that_waits_in_vain_after_a_client_left_is_found() -> None:
    story = Story()
    story.now = 10.0
    assert story.look(300)[0] == 11 + QUIET_S
    assert story.stuck() == {M: 1}
    story.slots.freed(M)
    story_freed = story.now
    assert story.slots.was_freed("second")
    assert not story.slots.was_freed("first")
    assert story.look(300)[0] == story_freed + 1 + QUIET_S


def test_switched_off_it_finds_nothing() -> None:
    story = Story()
    story.slots.quiet_s, story.now = 0.0, 10.0
    assert story.look(1000) == []


def test_of_an_engine_elsewhere_it_takes_longer() -> None:
    story = Story()
    story.now = 10.0
    assert story.look(400, here=False)[0] == 11 + UNSEEN * QUIET_S


def test_a_long_prompt_keeps_the_runner_busy_and_is_left_alone() -> None:
    assert Story(cpu_s=lambda now: 0.9 * now).look(3600) == []


def test_the_runner_has_to_rest_for_all_of_the_time() -> None:
    story = Story(cpu_s=lambda now: min(now, 100.0))
    found = story.look(600)
    assert 100 + QUIET_S <= found[0] <= 110 + QUIET_S


@pytest.mark.parametrize("why", ["finished since", "another answers", "not loaded", "left before a byte"])
def test_what_has_another_reason_is_no_stuck_slot(why: str) -> None:
    story = Story()
    slots = story.slots
    if why == "finished since":
        slots.asked(M, "third", 11.0)
        slots.answers(M, "third")
        slots.ended(M, "third", finished=True, left=False)
    elif why == "another answers":
        slots.asked(M, "third", 11.0)
        slots.answers(M, "third")
    elif why == "not loaded":
        assert slots.suspects({OTHER}) == []
        return
    else:
        story.slots = slots = Slots()
        slots.asked(M, "first", 0.0)
        slots.ended(M, "first", finished=False, left=True)
        slots.asked(M, "second", 1.0)
    assert story.look(600) == []


def test_a_request_that_failed_says_nothing_of_the_slot() -> None:
    story = Story()
    story.slots.asked(M, "third", 11.0)
    story.slots.ended(M, "third", finished=False, left=False)
    assert story.look(600)


@pytest.mark.parametrize("busy", [False, True])
def test_requests_that_a_fallback_takes_away_add_up(busy: bool) -> None:
    """Each waits 20 s, then a cloud answers it for 10 s, in which the runner rests whatever the slot does."""
    story = Story(cpu_s=lambda now: min(now % 30, 20) + now // 30 * 20 if busy else 7.0)
    story.slots.ended(M, "second", finished=False, left=False)
    for n in range(4):
        story.now = 30.0 * n
        story.slots.asked(M, f"asked {n}", story.now)
        found = story.look(20)
        story.slots.ended(M, f"asked {n}", finished=False, left=False)
        assert story.look(10) == []
        if found:
            break
    assert (found[:1], n) == ([] if busy else [30.0 * 3 + 4], 3)


def test_nothing_is_kept_of_models_without_requests() -> None:
    slots = Slots()
    for n in range(100):
        key = ("http://ollama", f"m{n}")
        slots.asked(key, "x", 0.0)
        slots.answers(key, "x")
        slots.ended(key, "x", finished=True, left=False)
    assert not slots._models


def test_the_runners_of_ollama_are_known_by_their_name_and_first_words(tmp_path: Path) -> None:
    shell = shutil.copy("/bin/sh", tmp_path / "ollama")
    (tmp_path / "runner").write_text("while :; do :; done\n")
    before = ollama_runners_cpu_s()
    with subprocess.Popen([shell, "runner", "--model", "x"], cwd=tmp_path) as process:
        try:
            wait_for(lambda: ollama_runners_cpu_s() > before, "its CPU time is counted")
        finally:
            process.kill()
