"""A long request log is read by its indexes: asserted on the database's own plans over 30,000 rows, not on time."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import QuerySet
from django.http import QueryDict
from django.test.utils import CaptureQueriesContext

from inference import selectors
from inference.models import InferenceRequest
from inference.request_log import figures, listing, reloads
from inference.request_log.filters import RequestFilter
from inference.request_log.listing import Cursor
from tests.inference.logged import T0, make_request, store

N = 30_000  # more than is ever looked at
BUSY, RARE = 200, 997  # one of so many: models and clients; errors, reloads and cut prompts


@pytest.fixture(scope="module")
def many(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """A second apart, for 8 hours; deleted afterwards."""
    with django_db_blocker.unblock():
        try:
            for start in range(0, N, 10_000):
                store(
                    *(
                        make_request(
                            ago=n,
                            model=f"model-{n % BUSY}",
                            client=f"client-{n % BUSY}",
                            profile=f"profile-{n % BUSY}",
                            api_key=f"key-{n % BUSY}",
                            failed=n % RARE == 1,
                            reloaded=n % RARE == 2,
                            previous_options={} if n % RARE == 2 else None,
                            truncated="likely" if n % RARE == 3 else "no",
                        )
                        for n in range(start, start + 10_000)
                    )
                )
            with connection.cursor() as cursor:
                cursor.execute("ANALYZE")
            yield
        finally:
            InferenceRequest.objects.all()._raw_delete("default")
            with connection.cursor() as cursor:
                cursor.execute("ANALYZE")


@pytest.fixture
def unblocked(many: None, db: None) -> None:
    """The rows were committed before this test's transaction began."""


pytestmark = pytest.mark.usefixtures("unblocked")


def asked(query: str) -> QuerySet[InferenceRequest]:
    form = RequestFilter(QueryDict(query), now=T0)
    assert form.is_valid()
    return form.requests()


def plans(captured: CaptureQueriesContext) -> list[str]:
    """How the database goes about each of the queries."""
    word = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
    found = []
    for each in list(captured.captured_queries):
        with connection.cursor() as cursor:
            cursor.execute(f"{word} {each['sql']}")
            found.append("\n".join(str(row[-1]) for row in cursor.fetchall()))
    return found


def assert_by_index(plan: str, index: str = "") -> None:
    """Through an index in the order of the list: neither all rows are read nor any sorted."""
    table = InferenceRequest._meta.db_table
    assert not re.search(rf"SCAN {table}(?! USING (COVERING )?INDEX)|Seq Scan", plan), plan
    assert not re.search(r"USE TEMP B-TREE FOR ORDER BY|\bSort\b", plan), plan
    assert index in plan, plan


MIDDLE = str(Cursor(T0 - timedelta(seconds=N // 2), 10**9))


@pytest.mark.parametrize("place", ["", "before", "after"])
@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("", "request_at"),
        ("range=all", "request_at"),
        ("range=all&model=model-3", "request_model_at"),
        ("range=all&client=client-3", "request_client_at"),
        ("range=all&profile=profile-3", "request_profile_at"),
        ("range=all&api_key=key-3", "request_key_at"),
        ("range=all&result=failed", "request_failed_at"),
        ("range=all&reloaded=yes", "request_reloaded_at"),
        ("range=all&cut=likely", "request_truncated_at"),
        ("range=24h&model=model-3&result=failed", "request_"),
        ("from=2026-11-20T08:00:00Z&to=2026-11-20T09:00:00Z", "request_at"),
    ],
)
def test_a_page_of_the_list_is_read_by_an_index(query: str, index: str, place: str) -> None:
    cursor = Cursor.parse(MIDDLE)
    with CaptureQueriesContext(connection) as captured:
        page = listing.page(asked(query), **({place: cursor} if place else {}))
    assert page.rows or "from" in query or "24h" in query  # these are elsewhere, or too few
    (plan,) = plans(captured)
    assert_by_index(plan, index)


@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="counts steps of SQLite's machine")
def test_a_page_in_the_middle_costs_no_more_than_the_first() -> None:
    """In instructions of the database: paging by offset would take 15,000 steps more."""
    steps = []
    for cursor in (None, Cursor.parse(MIDDLE), Cursor(T0 - timedelta(seconds=N - 100), 10**9)):
        n = 0

        def count() -> int:
            nonlocal n
            n += 1
            return 0

        connection.ensure_connection()
        connection.connection.set_progress_handler(count, 10)
        try:
            assert len(listing.page(asked("range=all"), before=cursor).rows) == listing.PER_PAGE
        finally:
            connection.connection.set_progress_handler(None, 10)
        steps.append(n * 10)
    assert max(steps) < 20_000
    assert max(steps) < 2 * min(steps)


def test_known_names_are_read_by_an_index_in_order() -> None:
    with CaptureQueriesContext(connection) as captured:
        listing.known_names()
    (plan,) = plans(captured)
    assert_by_index(plan, "request_at")
    assert "LIMIT" in captured.captured_queries[0]["sql"]


def test_new_ones_and_what_a_model_s_requests_teach_are_read_by_the_model_s_index() -> None:
    """Where an index leaves fewer rows than are read, a database may sort those."""
    last = listing.last_stored()
    assert last == InferenceRequest.objects.latest("id").pk
    with CaptureQueriesContext(connection) as captured:
        n = listing.count_stored_since(asked("range=all&model=model-3"), Cursor(T0, last - N + 2 * BUSY))
        assert selectors.token_density("model-3") is not None
    assert n == (3600 - 2 * BUSY) // BUSY  # of the hour before the page was made
    for plan, query in zip(plans(captured), captured.captured_queries, strict=True):
        assert "request_model_at" in plan
        assert "LIMIT" in query["sql"]


def test_figures_and_reloads_read_a_bounded_part_by_index() -> None:
    with CaptureQueriesContext(connection) as captured:
        found = figures.figures(asked("range=all"))
        costs = reloads.reloads(asked("range=all"))
    assert found.bounded
    assert found.whole.errors.n == figures.READ
    assert costs.n == N // RARE + 1
    assert costs.looked_at_bounded
    assert len(captured) == 3
    for plan, query in zip(plans(captured), captured.captured_queries, strict=True):
        assert_by_index(plan, "request_")
        assert "LIMIT" in query["sql"]
