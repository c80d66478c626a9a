"""The look each minute: proposals by threshold and pressure, what is done by itself, and what is never done twice."""

import json
from datetime import timedelta
from typing import Any

import pytest
import redis
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client

from benchmarks.models import Run
from inference.aliases.selectors import gateway_state
from inference.aliases.services import undo
from inference.errors import NotAllowedError
from inference.gateway.kept import STATE_KEY
from inference.jobs import services as jobs
from inference.models import AliasChange, JobState, ModelArchive, ModelEvent, ModelJob, Proposal, Variant
from inference.proposals import services as proposals
from monitoring.models import Event
from tests.inference.stand_in import StandIn
from tests.tuning.models_there import GIB, NOW, configure, measured, ollama, tag
from tuning import optimization, services
from tuning.models import Profile
from tuning.tasks import optimize_models

__all__ = ["ollama"]
pytestmark = pytest.mark.django_db(transaction=True)
MINUTE = timedelta(minutes=1)


def open_ones() -> list[tuple[str, str, str]]:
    return list(Proposal.objects.filter(state="open").order_by("id").values_list("kind", "model", "what"))


def look(minutes: float = 0) -> None:
    optimization.optimize(now=NOW + minutes * MINUTE)


@pytest.fixture
def large(ollama: StandIn) -> StandIn:
    """One above the threshold, one below."""
    ollama.tags = [tag("big:latest", 5 * GIB), tag("small:latest", GIB)]
    return ollama


def end(job: ModelJob, loss: float | None = 0.01, state: JobState = JobState.DONE) -> None:
    """As the worker does it, with the variant that it made."""
    started = jobs.start_next_job(host=job.host, now=NOW)
    assert started == job
    if state == JobState.DONE:
        variant = measured(job.source, job.target, "Q4_K_M", loss)
        Variant.objects.filter(pk=variant.pk).update(job=job)
    jobs.end_job(job, state, "the disk is full" if state == JobState.FAILED else "", now=NOW)


# --- proposals --------------------------------------------------------------------------------------------


def test_a_large_model_is_proposed_once_with_reason_and_size(large: StandIn, settings: Any) -> None:
    configure(settings, quantization={"default_level": "int4"})
    look()
    look(1)
    row = Proposal.objects.get()
    assert (row.kind, row.model, row.what, row.state) == ("quantize", "big:latest", "q4_K_M", "open")
    assert row.reason == "it takes 5120 MiB on the disk, and memory_threshold_mb is 2048"
    assert (row.size_bytes, row.expected_bytes) == (5 * GIB, int(5 * GIB * 4.85 / 16))
    assert ModelJob.objects.count() == 0
    event = ModelEvent.objects.get()
    assert (event.action, event.who, event.by_itself) == ("propose", "optimization", True)
    assert "quantize it to q4_K_M and measure that: it takes 5120 MiB" in event.detail
    assert "optimization proposed a step for big:latest" in Event.objects.get(kind="model").text


def test_what_is_dismissed_is_not_said_again_until_the_model_is_another(large: StandIn) -> None:
    look()
    row = Proposal.objects.get()
    proposals.dismiss(row, who="mia", now=NOW)
    look(1)
    assert open_ones() == []
    with pytest.raises(NotAllowedError, match="dismissed already"):
        proposals.start(row, who="mia", user=None, now=NOW)
    large.tags[0] = tag("big:latest", 5 * GIB, digest="made anew")
    look(2)
    assert open_ones() == [("quantize", "big:latest", "dynamic")]
    assert ModelEvent.objects.filter(action="dismiss", who="mia").count() == 1


def test_a_proposal_goes_with_its_reason_and_comes_back_with_it(large: StandIn, settings: Any) -> None:
    look()
    configure(settings, quantization={"memory_threshold_mb": 9000})
    look(1)
    assert Proposal.objects.get().state == "withdrawn"
    configure(settings, quantization={"memory_threshold_mb": 2048})
    address = settings.ENGINES
    settings.ENGINES = [{"kind": "ollama", "url": "http://127.0.0.1:1"}]
    look(2)
    settings.ENGINES = address
    look(3)
    assert len(open_ones()) == 1
    settings.ENGINES = [{"kind": "ollama", "url": "http://127.0.0.1:1"}]
    look(4)
    assert len(open_ones()) == 1  # nothing is known of an engine that is away


def test_a_model_that_a_job_works_on_waits(large: StandIn, settings: Any) -> None:
    """Its variant is there before it is measured."""
    configure(settings, quantization={"default_level": "int4"})
    look()
    job = proposals.start(Proposal.objects.get(), who="mia", user=None, now=NOW)
    assert job is not None
    large.tags.append(tag(job.target, GIB, "Q4_K_M"))
    measured("big:latest", job.target, loss=None)
    look(1)
    assert open_ones() == []
    jobs.cancel_job(job, who="mia", now=NOW)
    look(2)
    assert open_ones() == [("measure", "big:latest", job.target)]


def test_a_profile_that_wants_models_as_they_are_is_heard(large: StandIn) -> None:
    plain = Profile(name="plain", quantization="none")
    services.save_profile(plain, by=None)
    services.activate(plain, by=None)
    look()
    assert open_ones() == []


def test_a_variant_that_is_there_is_proposed_for_use(large: StandIn, settings: Any) -> None:
    configure(settings, quantization={"default_level": "int4"})
    large.tags.append(tag("big:q4", GIB, "Q4_K_M"))
    measured("big:latest", "big:q4")
    look()
    assert open_ones() == [("use", "big:latest", "big:q4")]
    assert gateway_state()["aliases"] == {}
    row = Proposal.objects.get()
    assert row.expected_bytes == GIB
    assert proposals.start(row, who="mia", user=None, now=NOW, told=lambda _: None) is None
    assert gateway_state()["aliases"] == {"big:latest": "big:q4"}
    assert AliasChange.objects.get().decided_by == "person"
    look(1)
    assert open_ones() == []


def test_cold_models_are_proposed_for_the_archive_and_kept(ollama: StandIn, settings: Any) -> None:
    ollama.tags = [
        tag("cold:latest", 3 * GIB, "Q4_K_M", days=8),
        tag("warm:latest", 3 * GIB, "Q4_K_M", days=6),
    ]
    look()
    assert open_ones() == [("archive", "cold:latest", "gzip")]
    assert "the model stays" in Proposal.objects.get().step
    assert proposals._parameters(Proposal.objects.get()).delete_after is False
    ModelArchive.objects.create(
        name="cold:latest", model_digest="digest of cold:latest", engine_kind="ollama", sha256="s",
        size_bytes=2, archive_bytes=1, file="f", took_s=1, who="mia", at=NOW,
    )  # fmt: skip
    look(1)
    assert open_ones() == []


# --- memory pressure --------------------------------------------------------------------------------------


def gateway_tells(valkey_url: str, level: str) -> None:
    """What the gateway writes each second of how the machine's memory stands."""
    told: dict[str, Any] = {
        "vram": None,
        "in_use": "",
        "memory": {"free_bytes": 1, "total_bytes": 100, "level": level},
        "vram_note": "",
        "limits": {},
        "rules": {},
        "remote": [],
        "loaded": [],
    }
    with redis.from_url(valkey_url) as valkey:
        valkey.set(STATE_KEY, json.dumps(told))


def test_repeated_pressure_asks_the_loaded_model_too(large: StandIn, settings: Any, valkey_url: str) -> None:
    configure(settings, quantization={"memory_threshold_mb": 9000})
    large.loaded = [{"name": "small:latest", "size": GIB, "size_vram": 0}]
    gateway_tells(valkey_url, "high")
    look(0)
    look(1)
    assert open_ones() == []
    look(2)
    assert open_ones() == [("quantize", "small:latest", "dynamic")]
    assert "memory was short at 3 looks within 30 minutes" in Proposal.objects.get().reason
    gateway_tells(valkey_url, "none")
    look(32.5)
    assert open_ones() == []


def test_looks_are_counted_within_half_an_hour_and_only_high_ones(ollama: StandIn) -> None:
    counted = [
        optimization.note_pressure(level, now=NOW + minute * MINUTE)
        for minute, level in ((0, "high"), (10, "some"), (20, "high"), (30, ""), (31, "high"), (90, "none"))
    ]
    assert counted == [1, 1, 2, 2, 2, 0]


def test_without_valkey_nothing_is_remembered(settings: Any) -> None:
    settings.VALKEY_URL = "unix:///nonexistent/v.sock"
    assert optimization.note_pressure("high", now=NOW) == 0


# --- by itself --------------------------------------------------------------------------------------------


@pytest.fixture
def by_itself(large: StandIn, settings: Any) -> StandIn:
    configure(settings, quantization={"auto_quantize": True, "default_level": "int4"})
    large.tags.insert(0, tag("bigger:latest", 9 * GIB))
    return large


def test_the_largest_is_made_first_one_at_a_time_and_used_when_it_loses_little(by_itself: StandIn) -> None:
    look()
    look(1)
    job = ModelJob.objects.get()
    assert (job.source, job.who, job.state) == ("bigger:latest", "optimization", "queued")
    assert job.parameters["measures"]["n_prompts"] > 0  # what it loses is measured
    assert open_ones() == [("quantize", "big:latest", "q4_K_M")]
    end(job, loss=0.01)
    by_itself.tags.append(tag(job.target, 3 * GIB, "Q4_K_M"))
    look(2)
    change = AliasChange.objects.get()
    assert (change.name, change.after, change.decided_by) == (job.source, job.target, "optimization")
    look(3)
    assert ModelJob.objects.filter(state="queued").get().source == "big:latest"
    said = list(ModelEvent.objects.order_by("id").values_list("action", "model", "by_itself"))
    assert ("start", "bigger:latest", True) in said
    assert ("use", "bigger:latest", True) in said
    # A person takes it back: that is heard.
    undo(change, who="mia", user=None, now=NOW, told=lambda _: None)
    end(ModelJob.objects.get(state="queued"), state=JobState.CANCELLED)
    look(4)
    look(5)
    assert gateway_state()["aliases"] == {}


def test_one_that_loses_too_much_is_made_but_not_used(by_itself: StandIn) -> None:
    look()
    job = ModelJob.objects.get()
    end(job, loss=0.2)
    by_itself.tags.append(tag(job.target, 3 * GIB, "Q4_K_M"))
    look(1)
    look(2)
    assert gateway_state()["aliases"] == {}
    row = Proposal.objects.get(model="bigger:latest")
    assert (row.state, row.by_itself) == ("done", True)
    assert row.result == f"{job.target} loses 0.2, more than 0.05: it is not used by itself"
    assert ModelJob.objects.filter(source="bigger:latest").count() == 1


def test_a_step_that_fails_is_left_to_a_person(by_itself: StandIn) -> None:
    look()
    end(ModelJob.objects.get(), state=JobState.FAILED)
    look(1)
    row = Proposal.objects.get(model="bigger:latest")
    assert (row.state, row.result) == ("failed", "failed: the disk is full")
    assert ModelJob.objects.filter(state="queued").get().source == "big:latest"
    end(ModelJob.objects.get(state="queued"), state=JobState.FAILED)
    look(2)
    assert not ModelJob.objects.filter(state="queued").exists()
    assert proposals.start(row, who="mia", user=None, now=NOW) is not None


def test_a_step_that_can_t_begin_says_why(by_itself: StandIn) -> None:
    by_itself.tags.append(tag("bigger:q4_K_M", quantization="Q4_K_M"))  # the name is taken
    look()
    row = Proposal.objects.get(model="bigger:latest")
    assert (row.state, row.by_itself) == ("failed", True)
    assert "There is a model bigger:q4_K_M already" in row.result
    assert ModelJob.objects.get().source == "big:latest"


def test_nothing_begins_while_a_benchmark_or_a_job_runs(by_itself: StandIn, settings: Any) -> None:
    run = Run.objects.create(
        host=settings.HOST_NAME, who="mia", kind="latency", model_names=[], parameters={}, created_at=NOW,
        state="running",
    )  # fmt: skip
    look()
    assert ModelJob.objects.count() == 0
    assert len(open_ones()) == 2
    run.state = "done"
    run.save()
    look(1)
    assert ModelJob.objects.count() == 1


def test_two_at_a_time_by_itself_are_refused(by_itself: StandIn) -> None:
    look()
    row = Proposal.objects.get(state="open")
    with pytest.raises(Exception, match="Another step is being done"), transaction.atomic():
        proposals.start(row, who="optimization", user=None, now=NOW, by_itself=True)
    row.refresh_from_db()
    assert row.state == "open"
    assert ModelJob.objects.count() == 1


# --- the page ---------------------------------------------------------------------------------------------


def text(answer: Any) -> str:
    return " ".join(answer.content.decode().split())


def test_the_page_starts_and_dismisses(large: StandIn, client: Client, admin: User, guest: User) -> None:
    large.tags.append(tag("third:latest", 3 * GIB))
    look()
    first, second = Proposal.objects.order_by("id")
    assert client.get("/models/proposals/").status_code == 302
    client.force_login(guest)
    page = text(client.get("/models/proposals/"))
    assert "it takes 5120 MiB on the disk" in page
    assert "Do it" not in page
    for what in ("start", "dismiss"):
        assert client.post(f"/models/proposals/{first.pk}/{what}/").status_code == 403
    client.force_login(admin)
    assert "2 proposals for these models" in text(client.get("/models/"))
    assert "about 1.52 GiB" in text(client.get("/models/proposals/"))
    answer = client.post(f"/models/proposals/{first.pk}/start/")
    job = ModelJob.objects.get()
    assert answer["Location"] == f"/models/jobs/{job.pk}/"
    assert "Being done" in text(client.get("/models/proposals/"))
    assert "started or dismissed already" in text(
        client.post(f"/models/proposals/{first.pk}/start/", follow=True)
    )
    page = text(client.post(f"/models/proposals/{second.pk}/dismiss/", follow=True))
    assert "is left as it is, and this is not proposed again" in page
    assert "dismissed</span>" in page
    assert client.get(f"/models/proposals/{first.pk}/start/").status_code == 405


def test_the_page_asks_the_database_a_fixed_number_of_times(
    ollama: StandIn, client: Client, admin: User, django_assert_max_num_queries: Any
) -> None:
    ollama.tags = [tag(f"m{number}:latest", 5 * GIB) for number in range(12)]
    look()
    client.force_login(admin)
    with django_assert_max_num_queries(9):
        client.get("/models/proposals/")


def test_the_task_runs_it(large: StandIn, valkey_url: str) -> None:
    with redis.from_url(valkey_url) as valkey, valkey.lock("aicleaner:lock:optimize", timeout=10):
        optimize_models()
        assert Proposal.objects.count() == 0  # another one looks already
    optimize_models()
    assert {model for _, model, _ in open_ones()} == {"big:latest"}
