"""The pages of the request log: what they show, what bad input gets, what leaves them, and how often they ask the database."""

import csv
import io
import json
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.http import QueryDict
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from inference import services, tasks
from inference.models import InferenceRequest, KeptPrompt
from inference.request_log import exports, listing
from inference.request_log.filters import RequestFilter
from inference.request_log.listing import PER_PAGE, Cursor, CursorError
from tests.inference.logged import T0, make_request, store, store_many

pytestmark = pytest.mark.django_db
PAGES = ("requests", "request-figures", "request-reloads", "request-contexts")
SECRET = "my secret prompt"


@pytest.fixture
def person(client: Client) -> Client:
    """Logged in, with no rights in the admin."""
    client.force_login(User.objects.create_user("anna"))
    return client


def words_of(answer: Any) -> str:
    return " ".join(answer.content.decode().split())


def collect(parts: Any) -> str:
    """Of a file that comes part by part."""

    async def all_of_it() -> list[str]:
        return [each if isinstance(each, str) else each.decode() async for each in parts]

    return "".join(async_to_sync(all_of_it)())


def found(query: str) -> list[InferenceRequest]:
    form = RequestFilter(QueryDict(query), now=T0)
    assert form.is_valid(), form.errors
    return list(form.requests())


@pytest.mark.parametrize("name", PAGES)
def test_every_page_asks_for_a_login_and_has_an_empty_state(client: Client, name: str) -> None:
    assert client.get(reverse(name)).status_code == 302
    client.force_login(User.objects.create_user("anna"))
    answer = client.get(reverse(name))
    assert answer.status_code == 200
    words = {
        "requests": "No request has come yet",
        "request-figures": "No such requests",
        "request-reloads": "No client made the engine load",
        "request-contexts": "No lengths are known",
    }
    assert words[name] in answer.content.decode()


@pytest.mark.parametrize(
    "name", ["requests-csv", "requests-json", "requests-newer", "request-context-memory"]
)
def test_files_and_fragments_ask_for_a_login_too(client: Client, name: str) -> None:
    assert client.get(reverse(name)).status_code == 302


def test_each_filter_finds_its_own() -> None:
    store(
        make_request(ago=10, request_id="plain"),
        make_request(
            ago=20, request_id="other", model="qwen", client="report", profile="fast", kind="generate"
        ),
        make_request(ago=30, request_id="v1", api="openai", cache="hit"),
        make_request(ago=40, request_id="failed", failed=True, status=500, error="CUDA error"),
        make_request(ago=50, request_id="broken", failed=True, error="the stream ended before it was done"),
        make_request(ago=60, request_id="likely", truncated="likely"),
        make_request(ago=70, request_id="possible", truncated="possible"),
        make_request(ago=80, request_id="reloaded", reloaded=True, previous_options={}),
        make_request(ago=90, request_id="slow", total_ms=9000),
        make_request(ago=7200, request_id="hours"),
        make_request(ago=3 * 86_400, request_id="days"),
    )
    expected = {
        "model=qwen": "other",
        "client=report": "other",
        "profile=fast": "other",
        "kind=generate": "other",
        "api=openai": "v1",
        "cache=hit": "v1",
        "result=failed": "failed broken",
        "result=500": "failed",
        "cut=likely": "likely",
        "cut=suspect": "likely possible",
        "reloaded=yes": "reloaded",
        "slower=8.9": "slow",
        "from=2026-11-20T09:00:00Z&to=2026-11-20T11:00:00Z": "hours",
        "from=2026-11-17T00:00&to=2026-11-18T00:00&zone=UTC": "days",
        "model=qwen&client=home": "",
    }
    for query, names in expected.items():
        assert " ".join(row.request_id for row in found(query)) == names, query
    assert len(found("range=1h")) == 9
    assert len(found("")) == 10
    assert len(found("range=all")) == 11
    assert len(found("profile=none")) == 9
    assert len(found("result=ok")) == 8


def test_a_wall_clock_is_that_of_the_viewer() -> None:
    store(make_request(request_id="noon"))  # 12:00 UTC is 13:00 in Paris
    assert len(found("from=2026-11-20 12:59&to=2026-11-20 13:01&zone=Europe/Paris")) == 1
    assert found("from=2026-11-20 11:59&to=2026-11-20 12:01&zone=Europe/Paris") == []
    assert len(found("from=2026-11-20 11:59&to=2026-11-20 12:01&zone=../etc/passwd")) == 1


@pytest.mark.parametrize(
    ("query", "field", "words"),
    [
        ("range=2h", "range", "Select a valid choice"),
        ("result=no", "result", "an HTTP status such as 404"),
        ("slower=x", "slower", "Enter a number"),
        ("slower=-1", "slower", "greater than or equal"),
        ("slower=nan", "slower", "Enter a number"),
        ("from=yesterday", "from", "such as 2026-01-31 18:30"),
        ("from=0001-01-01", "from", "from 2000 to 2199"),
        ("from=2099-01-01", "from", "still to come"),
        ("from=2026-01-02&to=2026-01-01", "to", "before it begins"),
        ("cache=maybe", "cache", "Select a valid choice"),
    ],
)
def test_bad_input_is_named_by_page_and_file(person: Client, query: str, field: str, words: str) -> None:
    for name in PAGES:
        answer = person.get(f"{reverse(name)}?{query}")
        assert answer.status_code == 400
        assert words in answer.content.decode()
    said = person.get(f"{reverse('requests-json')}?{query}")
    assert said.status_code == 400
    assert words in said.json()["errors"][field][0]


def test_paging_goes_through_every_request_once_and_back() -> None:
    """Also where many came in the same microsecond, on both sides of a page's edge."""
    store_many(PER_PAGE - 3)
    store(*(make_request(ago=PER_PAGE) for _ in range(2 * PER_PAGE)))
    store(*(make_request(ago=100 + n) for n in range(20)))
    everything = list(InferenceRequest.objects.values_list("pk", flat=True))
    seen, cursor, pages = [], None, []
    while True:
        page = listing.page(InferenceRequest.objects.all(), before=cursor)
        seen += [row.pk for row in page.rows]
        pages.append(page)
        if not page.older:
            break
        cursor = Cursor.parse(page.older)
    assert seen == everything
    assert [len(page.rows) for page in pages] == [50, 50, 50, 17]
    assert pages[0].newer == ""
    back = listing.page(InferenceRequest.objects.all(), after=Cursor.parse(pages[2].newer))
    assert [row.pk for row in back.rows] == [row.pk for row in pages[1].rows]
    assert back.newer
    first = listing.page(InferenceRequest.objects.all(), after=Cursor.parse(back.newer))
    assert [row.pk for row in first.rows] == [row.pk for row in pages[0].rows]
    assert first.newer == ""


@pytest.mark.parametrize("text", ["x", "1", "-", "1-x", "9" * 30 + "-1", "1-" + "9" * 30, "²-1"])
def test_a_place_that_is_none_is_said(person: Client, text: str) -> None:
    with pytest.raises(CursorError):
        Cursor.parse(text)
    answer = person.get(reverse("requests"), {"before": text})
    assert answer.status_code == 200
    assert "is not known" in answer.content.decode()
    assert person.get(reverse("requests-newer"), {"since": text}).status_code == 400


def test_a_cursor_keeps_the_microsecond() -> None:
    cursor = Cursor(T0 + timedelta(microseconds=123_457), 5)
    assert Cursor.parse(str(cursor)) == cursor


def test_new_requests_are_counted_within_the_filter_and_do_not_move_the_list(person: Client) -> None:
    """By when they were stored: a long one comes after others that arrived later."""
    now = timezone.now()
    where = reverse("requests-newer")
    store(make_request(at=now))
    page = person.get(reverse("requests")).content.decode()
    asked = {"since": page.partition("since=")[2].partition('"')[0]}
    assert asked["since"].endswith(f"-{listing.last_stored()}")
    assert person.get(where, asked).content.strip() == b""
    store(
        *(make_request(at=now - timedelta(minutes=n)) for n in (1, 2, 3)), make_request(at=now, model="qwen")
    )
    assert "4 new requests: show" in words_of(person.get(where, asked))
    answer = words_of(person.get(where, {**asked, "model": "qwen"}))
    assert "1 new request: show" in answer
    assert "?model=qwen" in answer
    store(*(make_request(at=now) for _ in range(listing.MOST_NEW)))
    assert "More than 100 new requests" in words_of(person.get(where, asked))
    assert person.get(where, {**asked, "range": "x"}).status_code == 400
    assert person.get(where, {"since": ""}).status_code == 400


def test_the_list_asks_as_often_for_a_full_page_as_for_one_row(
    person: Client, django_assert_num_queries: Any
) -> None:
    now = timezone.now()
    store(make_request(at=now))
    for n in (0, 200):
        store(*(make_request(at=now - timedelta(seconds=each), error="x", failed=True) for each in range(n)))
        with django_assert_num_queries(
            7
        ):  # session, person, alerts of the frame, names, last id, page, clouds
            answer = person.get(reverse("requests"))
        assert answer.status_code == 200
    assert answer.content.decode().count("<tr>") == PER_PAGE + 1


@pytest.mark.parametrize(
    ("name", "most"), [("request-figures", 6), ("request-reloads", 7), ("request-contexts", 18)]
)
def test_the_other_pages_ask_seldom(
    person: Client, django_assert_max_num_queries: Any, name: str, most: int
) -> None:
    """For context sizes once for each of twelve models whose prompts were cut."""
    now = timezone.now()
    store(
        *(
            make_request(
                at=now,
                model=f"m{n % 30}",
                client=f"c{n}",
                truncated="likely",
                reloaded=True,
                previous_options={},
            )
            for n in range(300)
        )
    )
    with django_assert_max_num_queries(most):
        assert person.get(reverse(name)).status_code == 200


def test_a_row_links_to_everything_known(person: Client) -> None:
    store(
        make_request(
            request_id="abc",
            model="llama",
            truncated="likely",
            truncated_why="Of 40,000 bytes sent, 2,050 tokens were evaluated.",
            reloaded=True,
            load_ms=900,
            total_ms=1400,
            load_options={"num_ctx": 8192},
            previous_options={"num_ctx": 4096},
            previous_client="report",
        )
    )
    page = person.get("/requests/?range=all").content.decode()
    assert 'href="/requests/abc/"' in page
    shown = words_of(person.get("/requests/abc/"))
    for words in (
        "Of 40,000 bytes sent",
        "num_ctx from 4096 to 8192 after a request of report",
        "loading the model",
        "900 ms",
        "192.168.1.2",
        "Not kept.",
        "kept for 30 days",
    ):
        assert words in shown, words
    assert person.get("/requests/nothing/").status_code == 404


def test_a_request_of_which_nothing_is_known_has_a_page(person: Client) -> None:
    bare = dict.fromkeys(
        (
            "ttft_ms",
            "load_ms",
            "prompt_eval_ms",
            "eval_ms",
            "queue_ms",
            "prompt_tokens",
            "output_tokens",
            "num_ctx",
        )
    )
    unknown = {
        "prompt_bytes": None,
        "load_options": None,
        "model": "",
        "client": "",
        "engine": "",
        "engine_kind": "",
    }
    store(make_request(request_id="bare", status=0, failed=True, error="x", **bare, **unknown))
    shown = person.get("/requests/bare/").content.decode()
    assert "The engine told no times" in shown
    assert "size not known" in shown
    assert "None" not in shown.replace("None:", "")


def test_kept_prompts_are_shown_on_their_page_and_nowhere_else(person: Client, settings: Any) -> None:
    settings.KEEP_PROMPT_BYTES = 4096
    row = make_request(request_id="kept", at=timezone.now())
    row.save()
    KeptPrompt.objects.create(request=row, at=row.at, text=f"<b>{SECRET}</b>", shortened=True)
    shown = person.get("/requests/kept/").content.decode()
    assert f"&lt;b&gt;{SECRET}&lt;/b&gt;" in shown
    assert "Its beginning only" in shown
    for where in ("requests", *PAGES, "requests-csv", "requests-json"):
        answer = person.get(reverse(where))
        text = collect(answer) if answer.streaming else answer.content.decode()
        assert SECRET not in text
        assert "llama" in text or where == "request-reloads"


def test_prompts_go_after_their_time_and_at_once_when_the_setting_is_off(settings: Any) -> None:
    now = timezone.now()
    for hours in (1, 30):
        row = make_request(at=now - timedelta(hours=hours))
        row.save()
        KeptPrompt.objects.create(request=row, at=row.at, text=SECRET, shortened=False)
    settings.KEEP_PROMPT_BYTES, settings.PROMPT_RETENTION_HOURS = 4096, 24
    tasks.delete_old_prompts()
    assert KeptPrompt.objects.count() == 1
    settings.KEEP_PROMPT_BYTES = 0
    tasks.delete_old_prompts()
    assert KeptPrompt.objects.count() == 0
    assert InferenceRequest.objects.count() == 2
    KeptPrompt.objects.create(request=row, at=row.at, text=SECRET, shortened=False)
    services.delete_request_records(now=now, keep_days=1)
    assert KeptPrompt.objects.count() == 0


def test_files_hold_the_filtered_requests_in_order(person: Client) -> None:
    now = timezone.now()
    store(
        make_request(at=now, model="=cmd()", load_options={"num_ctx": 8}, request_id="first"),
        make_request(at=now - timedelta(minutes=1), request_id="second", ttft_ms=None),
        make_request(at=now - timedelta(days=3), request_id="old"),
    )
    answer = person.get(reverse("requests-csv"))
    assert "attachment; filename=" in answer["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(collect(answer))))
    assert [row["request_id"] for row in rows] == ["first", "second"]
    assert rows[0]["model"] == "'=cmd()"
    assert json.loads(rows[0]["load_options"]) == {"num_ctx": 8}
    assert rows[1]["ttft_ms"] == ""
    found = json.loads(collect(person.get(reverse("requests-json"), {"model": "llama"})))
    assert found["filter"] == "model=llama"
    assert [row["request_id"] for row in found["requests"]] == ["second"]
    assert found["bounded"] is False


@pytest.mark.django_db(transaction=True)
def test_long_files_come_in_slices_and_say_where_they_end() -> None:
    store_many(exports.SLICE + 5)
    rows = collect(exports.as_csv(InferenceRequest.objects.all())).splitlines()
    assert len(rows) == exports.SLICE + 6
    assert len({row.split(",")[0] for row in rows}) == len(rows)
    for most, bounded in ((exports.SLICE + 5, False), (exports.SLICE + 4, True), (7, True), (10**6, False)):
        found = json.loads(collect(exports.as_json(InferenceRequest.objects.all(), "", most)))
        assert len(found["requests"]) == min(most, exports.SLICE + 5)
        assert found["bounded"] is bounded
    assert len(collect(exports.as_csv(InferenceRequest.objects.all(), 7)).splitlines()) == 8
    empty = json.loads(collect(exports.as_json(InferenceRequest.objects.none(), "")))
    assert empty["requests"] == []
