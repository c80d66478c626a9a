"""Pulls: what the engine says of them, their queue, and every way in which they end."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as product
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from inference.catalogue import pulling, pulls
from inference.engines.selectors import EngineAddress
from inference.errors import NotAllowedError
from inference.models import JobState, ModelEvent, ModelPull
from monitoring.models import Event
from tests.inference.stand_in import END, GIB, LAYERS, StandIn, stand_in

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey_url")]
NAME = "gemma3:4b"
NO_FILE = "pull model manifest: file does not exist"


@pytest.fixture
def ollama(settings: Any) -> Iterator[StandIn]:
    with stand_in() as server:
        settings.ENGINES = [
            {"kind": "ollama", "url": server.url},
            {"kind": "embedded", "url": "http://127.0.0.1:1"},
        ]
        yield server


def started(ollama: StandIn, name: str = NAME, who: str = "mia") -> ModelPull:
    pulls.create_pull(engine(ollama), name, host=product.HOST_NAME, who=who, now=timezone.now())
    pull = pulls.start_next_pull(host=product.HOST_NAME, now=timezone.now())
    assert pull is not None
    return pull


def engine(ollama: StandIn) -> EngineAddress:
    return EngineAddress("ollama", ollama.url, "ollama")


def ended(pull: ModelPull, ollama: StandIn, stopping: Any = lambda: "") -> ModelPull:
    pulling.execute(pull, engine(ollama), stopping=stopping)
    pull.refresh_from_db()
    return pull


def test_a_pull_that_succeeds_is_in_the_log_and_on_the_lane(ollama: StandIn) -> None:
    pull = ended(started(ollama), ollama)
    assert (pull.state, pull.reason) == (JobState.DONE, "")
    assert ollama.pulled == [NAME]
    line = ModelEvent.objects.get()
    assert (line.who, line.action, line.model, line.state, line.by_itself) == (
        "mia",
        "pull",
        NAME,
        "done",
        False,
    )
    assert Event.objects.get().text == f"mia pulled {NAME}"


def test_progress_is_what_the_layers_say_together(ollama: StandIn) -> None:
    ollama.script = (*LAYERS[:3], None, *END)
    pull, looks = started(ollama), iter(range(1000))

    def stopping() -> str:
        row = ModelPull.objects.get(pk=pull.pk)
        if row.done_bytes:
            assert (row.done_bytes, row.total_bytes, row.step) == (GIB, 4 * GIB, "pulling aaaa")
            ollama.go_on.set()
        assert next(looks) < 999
        return ""

    assert ended(pull, ollama, stopping).state == JobState.DONE
    assert ollama.go_on.is_set()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (({"status": "pulling manifest"}, {"error": NO_FILE}), NO_FILE),
        (LAYERS[:3], "the engine ended it without saying that it is done"),
        ((), "the engine ended it without saying that it is done"),
    ],
)  # fmt: skip
def test_a_pull_that_fails_says_why(ollama: StandIn, script: Any, words: str) -> None:
    ollama.script = script
    pull = ended(started(ollama), ollama)
    assert (pull.state, pull.reason) == (JobState.FAILED, words)
    assert ModelEvent.objects.get().result == words
    assert Event.objects.get().text == f"mia could not pull {NAME}: {words}"


def test_the_registrys_own_words_are_shown(ollama: StandIn) -> None:
    recorded = json.loads((Path(__file__).parent / "transcripts" / "pull-offline.json").read_text())
    ollama.refusal = 500, recorded["response"]["body_json"]
    pull = ended(started(ollama), ollama)
    assert pull.state == JobState.FAILED
    assert "dial tcp: lookup registry.ollama.ai" in pull.reason


def test_an_engine_that_is_away_fails_the_pull(ollama: StandIn) -> None:
    pull = started(ollama)
    pulling.execute(pull, EngineAddress("ollama", "http://127.0.0.1:1", "ollama"), stopping=lambda: "")
    pull.refresh_from_db()
    assert pull.state == JobState.FAILED
    assert "the engine went away" in pull.reason


def test_a_cancelled_pull_closes_the_connection(ollama: StandIn) -> None:
    ollama.script = (*LAYERS[:3], None)
    pull = started(ollama)

    def stopping() -> str:
        if ollama.waits.is_set() and ModelPull.objects.get(pk=pull.pk).cancel_asked_at is None:
            pulls.cancel_pull(ModelPull.objects.get(pk=pull.pk), who="anna", now=timezone.now())
        return ""

    pull = ended(pull, ollama, stopping)
    assert (pull.state, pull.reason) == (JobState.CANCELLED, "cancelled by anna")
    assert ollama.left.wait(10)
    with pytest.raises(NotAllowedError):
        pulls.cancel_pull(pull, who="anna", now=timezone.now())


def test_a_worker_that_stops_leaves_the_pull_interrupted(ollama: StandIn) -> None:
    ollama.script = (None,)
    pull = ended(started(ollama), ollama, lambda: "the worker was stopped" if ollama.waits.is_set() else "")
    assert (pull.state, pull.reason) == (JobState.INTERRUPTED, "the worker was stopped")
    assert ollama.left.wait(10)


def test_a_pull_whose_process_is_gone_is_interrupted_after_its_lease(ollama: StandIn) -> None:
    pull = started(ollama)
    pulls.interrupt_lost_pulls(now=timezone.now() + timedelta(seconds=19))
    pull.refresh_from_db()
    assert pull.state == JobState.RUNNING
    pulls.interrupt_lost_pulls(now=timezone.now() + timedelta(seconds=21))
    pull.refresh_from_db()
    assert (pull.state, pull.reason) == (JobState.INTERRUPTED, "the process that pulled it is gone")
    assert ended(pull, ollama).state == JobState.INTERRUPTED  # one that comes back late ends nothing


def test_pulls_wait_for_each_other_and_a_model_is_pulled_once_at_a_time(ollama: StandIn) -> None:
    first, now = started(ollama), timezone.now()
    pulls.create_pull(engine(ollama), "second:1b", host=product.HOST_NAME, who="mia", now=now)
    with pytest.raises(NotAllowedError, match="is being pulled already"):
        pulls.create_pull(engine(ollama), NAME, host=product.HOST_NAME, who="mia", now=now)
    assert pulls.start_next_pull(host=product.HOST_NAME, now=now) is None
    assert not pulls.is_waiting(product.HOST_NAME)
    ended(first, ollama)
    assert pulls.is_waiting(product.HOST_NAME)
    second = pulls.start_next_pull(host=product.HOST_NAME, now=now)
    assert second is not None
    assert second.model == "second:1b"


def test_the_embedded_engine_pulls_nothing_and_says_so() -> None:
    with pytest.raises(NotAllowedError, match="no registry"):
        pulls.create_pull(
            EngineAddress("embedded", "http://x", "embedded"), NAME, host="h", who="mia", now=timezone.now()
        )
    assert not ModelPull.objects.exists()


@pytest.fixture
def staff(client: Client) -> Client:
    client.force_login(User.objects.create(username="boss", is_staff=True))
    return client


def test_the_form_queues_a_pull_and_shows_it_with_its_cancel(staff: Client, ollama: StandIn) -> None:
    answer = staff.post("/models/pull/", {"engine": "ollama", "model": "gemma3"})
    assert answer.status_code == 302
    pull = ModelPull.objects.get()
    assert (pull.model, pull.who, pull.state) == ("gemma3:latest", "boss", JobState.QUEUED)
    page = staff.get("/models/").content.decode()
    assert f'data-pull="{pull.pk}"' in page
    assert "Waits for the worker" in page
    staff.post(f"/models/pull/{pull.pk}/cancel/")
    pull.refresh_from_db()
    assert (pull.state, pull.reason) == (JobState.CANCELLED, "cancelled by boss")
    page = staff.get("/models/").content.decode()
    assert "Cancelled by boss." in page
    assert "Pull again" in page


@pytest.mark.parametrize("name", ["", "a b", "../x", "-x", "x" * 201, "x:" + "t" * 81])
def test_a_name_that_is_none_comes_back_with_its_error(staff: Client, ollama: StandIn, name: str) -> None:
    answer = staff.post("/models/pull/", {"engine": "ollama", "model": name})
    assert answer.status_code == 200
    assert answer.context["pull_form"].errors["model"]
    assert '<details class="card" id="pull" open' in answer.content.decode()
    assert not ModelPull.objects.exists()


def test_the_form_does_not_offer_an_engine_that_can_not_pull(staff: Client, ollama: StandIn) -> None:
    answer = staff.post("/models/pull/", {"engine": "embedded", "model": NAME})
    assert "Select a valid choice" in str(answer.context["pull_form"].errors["engine"])
