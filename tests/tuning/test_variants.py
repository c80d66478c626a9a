"""Quantization and compression of a profile act: variants answer while it is in use, and go back with it."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from inference.aliases import services as aliases
from inference.aliases.selectors import gateway_state
from inference.models import AliasChange, DecidedBy, JobState, ModelEvent, ModelJob, Proposal
from tests.inference.stand_in import StandIn
from tests.tuning.models_there import GIB, configure, measured, ollama, tag
from tuning import selectors, services, variants
from tuning.models import Profile

__all__ = ["ollama"]
pytestmark = pytest.mark.django_db(transaction=True)


def profile(name: str = "small", **values: Any) -> Profile:
    found = Profile(name=name, **values)
    services.save_profile(found, by=None)
    return found


def answering() -> dict[str, str]:
    return dict(gateway_state()["aliases"])


def decide(name: str, target: str) -> AliasChange:
    return aliases.set_alias(name, target, who="mia", user=None, now=timezone.now(), told=lambda _: None)


@pytest.fixture
def two(ollama: StandIn) -> StandIn:
    """Two models, one with a measured INT4 and INT8 form."""
    ollama.tags = [
        tag("m:latest"),
        tag("m:q4", GIB // 3, "Q4_K_M"),
        tag("m:q8", GIB // 2, "Q8_0"),
        tag("n:latest"),
    ]
    measured("m:latest", "m:q4")
    measured("m:latest", "m:q8", "Q8_0", 0.001)
    return ollama


def test_the_variant_answers_with_the_activation_and_goes_back_with_its_undo(two: StandIn) -> None:
    first = services.activate(profile(quantization="int4"), by=None)
    assert answering() == {"m:latest": "m:q4"}
    second = services.activate(profile("better", quantization="int8"), by=None)
    assert answering() == {"m:latest": "m:q8"}
    services.undo(second, by=None)
    assert answering() == {"m:latest": "m:q4"}
    services.undo(first, by=None)
    assert answering() == {}
    said = ModelEvent.objects.filter(action="use").order_by("id").values_list("who", "by_itself", "detail")
    assert [each[:2] for each in said] == [
        ("profile small", True), ("profile better", True), ("profile small", True), ("config.yaml", True)
    ]  # fmt: skip
    assert said[0][2].startswith("m:q4 answers for it: m:q4 loses 0.01 nats")


@pytest.mark.parametrize("level", ["none", ""])
def test_a_profile_without_a_level_takes_back_what_another_put_in_place(two: StandIn, level: str) -> None:
    services.activate(profile(quantization="int4"), by=None)
    services.activate(profile("plain", quantization=level), by=None)
    assert answering() == {}


def test_an_edit_of_the_profile_in_use_acts_at_once(two: StandIn) -> None:
    row = profile(quantization="int4")
    services.activate(row, by=None)
    row.max_loss = 0.001
    services.save_profile(row, by=None)
    assert answering() == {}
    row.quantization = "int8"
    services.save_profile(row, by=None)
    assert answering() == {"m:latest": "m:q8"}


def test_what_a_person_decided_stays(two: StandIn) -> None:
    decide("m:latest", "m:q8")
    activation = services.activate(profile(quantization="int4"), by=None)
    assert answering() == {"m:latest": "m:q8"}
    services.undo(activation, by=None)
    assert answering() == {"m:latest": "m:q8"}


def test_an_undo_by_a_person_holds_until_the_next_activation(two: StandIn) -> None:
    row = profile(quantization="int4")
    services.activate(row, by=None)
    decide("m:latest", "")
    variants.follow(now=timezone.now())
    assert answering() == {}
    services.activate(row, by=None)
    assert answering() == {"m:latest": "m:q4"}


def test_a_variant_that_is_gone_or_another_file_now_is_not_used(two: StandIn) -> None:
    services.activate(profile(quantization="int4"), by=None)
    two.tags[1] = tag("m:q4", digest="made anew")
    variants.follow(now=timezone.now())
    assert answering() == {}


def test_an_engine_that_is_away_changes_nothing(two: StandIn, settings: Any) -> None:
    services.activate(profile(quantization="int4"), by=None)
    address = settings.ENGINES
    settings.ENGINES = [{"kind": "ollama", "url": "http://127.0.0.1:1"}]
    variants.follow(now=timezone.now())
    assert answering() == {"m:latest": "m:q4"}
    current = selectors.activation_in_use()
    assert current is not None
    services.undo(current, by=None)  # who asks for no variant needs no engine to say so
    assert answering() == {}
    settings.ENGINES = address


def test_a_name_that_answers_for_another_is_left_alone(two: StandIn) -> None:
    decide("other:latest", "m:latest")
    services.activate(profile(quantization="int4"), by=None)
    assert answering() == {"other:latest": "m:latest"}


def test_the_settings_hold_a_profile(two: StandIn, settings: Any) -> None:
    row = profile(quantization="int4")
    for section in ({"enabled": False}, {"levels": ("int8", "dynamic")}, {"auto_select": False}):
        configure(settings, quantization={"enabled": True, "levels": ("int4", "dynamic"), **section})
        services.activate(row, by=None)
        assert answering() == {}, section
    outlook = variants.look(variants.current_wish()[0], now=timezone.now())
    steps = [(each.kind, each.model, each.what) for each in variants.steps(outlook)]
    assert ("use", "m:latest", "m:q4") in steps  # proposed instead


# --- the page ---------------------------------------------------------------------------------------------


@pytest.fixture
def client(admin: User, store: Any) -> Client:
    client = Client()
    client.force_login(admin)
    return client


def text(answer: Any) -> str:
    return " ".join(answer.content.decode().split())


def test_the_page_says_what_is_asked_of_each_and_makes_what_is_missing(two: StandIn, client: Client) -> None:
    row = profile(quantization="int4")
    url = f"/tuning/profiles/{row.name}/variants/"
    page = text(client.get(url))
    assert "→ <b>m:q4</b>" in page
    assert "answers for it</span>" not in page
    assert ">Quantize: q4_K_M</button>" in page
    services.activate(row, by=None)
    assert "answers for it</span>" in text(client.get(url))
    form = {"engine_kind": "ollama", "model": "n:latest", "kind": "quantize", "what": "q4_K_M"}
    answer = client.post(url, form)
    job = ModelJob.objects.get()
    assert answer["Location"] == f"/models/jobs/{job.pk}/"
    assert (job.kind, job.source, job.target, job.who) == ("quantize", "n:latest", "n:q4_K_M", "ann")
    assert (job.state, job.parameters["level"]) == (JobState.QUEUED, "q4_K_M")
    again = text(client.post(url, form, follow=True))
    assert "not to be done any more" in again
    assert "a job works on it</a>" in text(client.get(url))
    assert ModelJob.objects.count() == 1
    wrong = text(client.post(url, {**form, "model": "m:latest"}, follow=True))
    assert "not to be done any more" in wrong
    proposal = Proposal.objects.get()
    assert (proposal.state, proposal.by_itself, proposal.job) == ("started", False, job)


def test_only_staff_make_and_everybody_sees(two: StandIn, client: Client, guest: User) -> None:
    row = profile(quantization="int4")
    url = f"/tuning/profiles/{row.name}/variants/"
    client.force_login(guest)
    assert "</button>" not in text(client.get(url))
    assert client.post(url, {"model": "n:latest"}).status_code == 403
    assert client.get("/tuning/profiles/nobody/variants/").status_code == 404
    assert Client().get(url).status_code == 302


def test_the_page_says_what_the_settings_forbid(two: StandIn, client: Client, settings: Any) -> None:
    row = profile(quantization="int4", compression="gzip")
    configure(settings, quantization={"levels": ("dynamic",)}, compression={"enabled": False})
    page = text(client.get(f"/tuning/profiles/{row.name}/variants/"))
    assert "does not offer INT4 (quantization.levels)" in page
    assert "switches compression off" in page
    assert "every model answers as it is" in page


def test_decisions_of_a_profile_are_marked_as_such(two: StandIn) -> None:
    services.activate(profile(quantization="int4"), by=None)
    change = AliasChange.objects.get()
    assert (change.decided_by, change.who) == (DecidedBy.PROFILE, "profile small")
    assert timezone.now() - change.at < timedelta(minutes=1)
