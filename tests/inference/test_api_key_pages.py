"""Pages of API keys: who may see and do what, and that a token is in one answer only."""

import json
import re
import time
from datetime import timedelta
from typing import Any

import pytest
import redis
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from inference.api_keys import services
from inference.gateway.records import STATS_KEY
from inference.models import ApiKey, ApiKeyMonth, InferenceRequest
from tests.inference.test_request_log import collect

pytestmark = pytest.mark.django_db
NONE = {"expires": "", "allowed": "", "zone": ""}


@pytest.fixture(autouse=True)
def _no_gateway(valkey_url: str, no_gateway_before: None) -> None:
    pass


@pytest.fixture
def key() -> ApiKey:
    found = ApiKey(name="home", tokens_per_month=1000)
    services.create_key(found, who="boss", user=None, now=timezone.now())
    return found


def pages(key: ApiKey) -> list[tuple[str, str]]:
    of_key = [reverse(name, args=[key.pk]) for name in ("api-key", "api-key-rotate", "api-key-delete")]
    gets = [reverse("api-keys"), reverse("api-key-new"), *of_key]
    return [
        *(("GET", each) for each in gets),
        *(("POST", each) for each in (*gets[1:], reverse("api-key-enable", args=[key.pk]))),
    ]


def test_nobody_comes_in_without_a_login_and_nothing_changes(client: Client, key: ApiKey) -> None:
    for method, address in pages(key):
        answer = client.generic(method, address)
        assert (answer.status_code, answer["Location"]) == (302, f"/login/?next={address}")
    assert ApiKey.objects.get() == key


def test_a_person_without_staff_sees_and_changes_nothing(person: Client, key: ApiKey) -> None:
    codes = {(method, address): person.generic(method, address).status_code for method, address in pages(key)}
    allowed = [("GET", reverse("api-keys")), ("GET", key.get_absolute_url())]
    assert {each: codes.pop(each) for each in allowed} == dict.fromkeys(allowed, 200)
    assert set(codes.values()) == {403}
    assert "Rotate" not in person.get(key.get_absolute_url()).content.decode()


def test_a_change_needs_the_token_of_the_page(key: ApiKey) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.create(username="boss", is_staff=True))
    for method, address in pages(key):
        if method == "POST":
            assert strict.post(address).status_code == 403


def test_a_new_key_is_shown_once(staff: Client) -> None:
    answer = staff.post(reverse("api-key-new"), {**NONE, "name": "home", "allowed": "llama3*\nqwen"})
    found = re.findall(r'value="(aic-[\w-]+)"', answer.content.decode())
    assert len(found) == 1
    assert "no-store" in answer["Cache-Control"]
    key = ApiKey.objects.get()
    assert (key.allowed_models, key.who, key.prefix) == (["llama3*", "qwen"], "boss", found[0][:12])
    for address in (reverse("api-keys"), key.get_absolute_url(), reverse("api-key-rotate", args=[key.pk])):
        assert found[0][12:] not in staff.get(address).content.decode()
    assert not any(found[0] in each.session_data for each in Session.objects.all())
    again = staff.post(reverse("api-key-new"), {**NONE, "name": "home"})  # the page loaded anew
    assert again.status_code == 400
    assert "already exists" in again.content.decode()
    rotated = staff.post(reverse("api-key-rotate", args=[key.pk])).content.decode()
    fresh = re.findall(r'value="(aic-[\w-]+)"', rotated)[0]
    assert fresh != found[0]
    key.refresh_from_db()
    assert key.prefix == fresh[:12]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "-x"),
        ("name", "a\nb"),
        ("name", "<b>"),
        ("name", "x" * 65),
        ("requests_per_minute", "0"),
        ("tokens_per_minute", "-5"),
        ("tokens_per_month", "many"),
        ("usd_per_month", "0"),
        ("frame_distance", "17"),
        ("expires", "2020-01-01T00:00"),
        ("expires", "tomorrow"),
        ("expires", "9999-01-01T00:00"),
        ("allowed", "\n".join(map(str, range(51)))),
        ("allowed", "x" * 201),
    ],
)
def test_bad_input_is_named_at_its_field(staff: Client, field: str, value: str) -> None:
    answer = staff.post(reverse("api-key-new"), {**NONE, "name": "home", field: value})
    assert answer.status_code == 400
    assert f'id="id_{field}_error"' in answer.content.decode()
    assert not ApiKey.objects.exists()


def test_limits_change_and_times_are_the_clock_of_the_page(staff: Client, key: ApiKey) -> None:
    sent = {
        **NONE,
        "requests_per_minute": "5",
        "expires": "2099-07-01T12:00",
        "zone": "Europe/Berlin",
        "manages": "on",
    }
    assert staff.post(key.get_absolute_url(), sent).status_code == 302
    key.refresh_from_db()
    assert (key.requests_per_minute, key.tokens_per_month, key.manages) == (5, None, True)
    assert key.expires_at is not None
    assert key.expires_at.isoformat() == "2099-07-01T10:00:00+00:00"
    assert 'data-instant="2099-07-01T10:00:00+00:00"' in staff.get(key.get_absolute_url()).content.decode()
    ApiKey.objects.update(expires_at=timezone.now() - timedelta(days=1))
    key.refresh_from_db()
    assert key.expires_at is not None
    assert "expired" in staff.get(key.get_absolute_url()).content.decode()
    shown = {**NONE, "expires": f"{key.expires_at:%Y-%m-%dT%H:%M}", "tokens_per_minute": "7"}
    assert staff.post(key.get_absolute_url(), shown).status_code == 302  # sent back as it was
    refused = staff.post(key.get_absolute_url(), {**NONE, "tokens_per_minute": "x"})
    assert refused.status_code == 400
    key.refresh_from_db()
    assert key.tokens_per_minute == 7


def test_the_list_shows_uses_and_costs_the_same_queries_for_many(
    staff: Client, key: ApiKey, django_assert_max_num_queries: Any
) -> None:
    ApiKeyMonth.objects.create(
        key=key, month=f"{timezone.now():%Y-%m}", n_requests=12, n_errors=2, n_tokens=1500
    )
    for n in range(20):
        services.create_key(ApiKey(name=f"key {n}"), who="boss", user=None, now=timezone.now())
    with django_assert_max_num_queries(8):
        text = staff.get(reverse("api-keys")).content.decode()
    assert "budget used up" in text
    assert "150 % of 1,000" in text
    assert "1,500" in text


def test_deleting_asks_first_and_disabling_can_be_undone(staff: Client, key: ApiKey) -> None:
    for enabled in ("0", "1"):
        staff.post(reverse("api-key-enable", args=[key.pk]), {"enabled": enabled})
        key.refresh_from_db()
        assert key.enabled is (enabled == "1")
    address = reverse("api-key-delete", args=[key.pk])
    assert "Delete home?" in staff.get(address).content.decode()
    assert ApiKey.objects.exists()
    answer = staff.post(address, follow=True)
    assert "home is deleted" in answer.content.decode()
    assert not ApiKey.objects.exists()
    assert staff.get(address).status_code == 404


def test_requests_are_filtered_and_grouped_by_key_and_exports_hold_names_only(
    staff: Client, key: ApiKey
) -> None:
    for n, name in enumerate(("home", "home", "")):
        InferenceRequest.objects.create(
            request_id=f"{n:032}", at=timezone.now(), path="/api/chat", api="ollama", kind="chat", model="m",
            stream=False, status=429 if n else 200, failed=bool(n), total_ms=1.0, request_bytes=1, response_bytes=1,
            cache="bypass", api_key=name, prompt_tokens=40, output_tokens=3,
        )  # fmt: skip
    listed = staff.get(reverse("requests"), {"api_key": "home"})
    assert len(listed.context["page"].rows) == 2
    assert len(staff.get(reverse("requests"), {"api_key": "none"}).context["page"].rows) == 1
    figures = staff.get(reverse("request-figures")).context["figures"]
    groups = {what: {group.name: group for group in found} for what, _, found, _ in figures.by}
    home = groups["API key"]["home"]
    assert (home.errors.k, home.errors.n, home.prompt_tokens, home.output_tokens) == (1, 2, 80, 6)
    for name in ("requests-csv", "requests-json"):
        text = collect(staff.get(reverse(name), {"api_key": "home"}))
        assert text.count("home") >= 2
        assert key.digest not in text
        assert key.prefix not in text


def test_metrics_and_health_name_no_key(client: Client, key: ApiKey, valkey_url: str) -> None:
    sample = {
        "type": "sample",
        "at": time.time(),
        "host": "box",
        "v": {"load1": 1.0},
        "state": {},
        "events": [],
    }
    with redis.from_url(valkey_url) as valkey:
        valkey.set("aicleaner:live:last", json.dumps(sample), ex=5)
        valkey.set(
            STATS_KEY, json.dumps({"at": time.time(), "access": {"require": "remote", "n_refused": 3}}), ex=5
        )
        answers = {address: client.get(address).content.decode() for address in ("/metrics", "/healthz")}
        valkey.delete("aicleaner:live:last", STATS_KEY)
    assert "aicleaner_load1" in answers["/metrics"]
    for text in answers.values():
        assert key.digest not in text
        assert key.prefix not in text
        assert key.name not in text
