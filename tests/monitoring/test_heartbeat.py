"""The dead-man's switch: called while alerts are judged, silent as soon as they are not."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.core.exceptions import ImproperlyConfigured

from aicleaner_site import environment
from monitoring.alerts.heartbeat import FAILED_KEY, beat
from monitoring.alerts.selectors import LAST_KEY
from tests.monitoring.alerting import HOST, T0, at
from tests.monitoring.receivers import http_receiver

pytestmark = pytest.mark.django_db


@pytest.fixture
def valkey(valkey_url: str) -> Iterator[redis.Redis]:
    with redis.from_url(valkey_url) as client:
        client.delete(LAST_KEY, FAILED_KEY)
        yield client
        client.delete(LAST_KEY, FAILED_KEY)


def sampled(valkey: redis.Redis, seconds: float, lag_s: float | None, host: str = HOST) -> None:
    values: dict[str, Any] = {} if lag_s is None else {"evaluator_lag_s": lag_s}
    valkey.set(LAST_KEY, json.dumps({"host": host, "at": T0 + seconds, "v": values}))


def test_it_calls_while_the_evaluator_keeps_up(valkey: redis.Redis) -> None:
    with http_receiver() as receiver:
        url = f"{receiver.url}/ping/5ecret"
        sampled(valkey, 59, 1)
        assert beat(valkey, HOST, url, at(60))
        assert [each.path for each in receiver.got] == ["/ping/5ecret"]
        for seconds, lag_s, host in ((59, 4.0, HOST), (40, 0.0, HOST), (59, None, HOST), (59, 0.0, "other")):
            sampled(valkey, seconds, lag_s, host)
            assert not beat(valkey, HOST, url, at(60))
        valkey.delete(LAST_KEY)
        assert not beat(valkey, HOST, url, at(60))
        assert len(receiver.got) == 1


def test_a_failure_is_logged_once_and_its_end_too_without_the_secret(
    valkey: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    sampled(valkey, 59, 0)
    with http_receiver() as receiver:
        url = f"{receiver.url}/ping/5ecret"
        receiver.status, receiver.answer = 503, lambda got: f"no {got.path}".encode()
        for _ in range(3):
            assert not beat(valkey, HOST, url, at(60))
        receiver.status = 200
        assert beat(valkey, HOST, url, at(60))
        assert beat(valkey, HOST, url, at(60))
    said = [each.getMessage() for each in caplog.records if each.name == "monitoring.alerts.heartbeat"]
    assert len(said) == 2
    assert "503" in said[0]
    assert "5ecret" not in caplog.text
    assert said[1] == "the heartbeat gets through again"


def test_an_address_that_is_not_allowed_is_not_called(
    valkey: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    sampled(valkey, 59, 0)
    assert not beat(valkey, HOST, "http://169.254.169.254/latest", at(60))
    assert "link-local" in caplog.text


def test_a_redirect_is_not_followed(valkey: redis.Redis) -> None:
    sampled(valkey, 59, 0)
    with http_receiver() as receiver:
        receiver.status, receiver.answer_headers = 302, {"Location": f"{receiver.url}/other"}
        assert not beat(valkey, HOST, f"{receiver.url}/ping", at(60))
        assert [each.path for each in receiver.got] == ["/ping"]


@pytest.mark.parametrize(
    "url", ["example.com/5ecret", "ftp://example.com/5ecret", "http://", "http://x:99999/"]
)
def test_a_setting_that_is_no_url_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("AICLEANER_HEARTBEAT_URL", url)
    with pytest.raises(ImproperlyConfigured, match="AICLEANER_HEARTBEAT_URL: give a URL") as error:
        environment.http_url("AICLEANER_HEARTBEAT_URL")
    assert "5ecret" not in str(error.value)
