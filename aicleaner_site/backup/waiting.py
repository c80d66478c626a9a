"""Request records that the gateway has handed to Valkey and the worker has not stored yet: all of Valkey that has to survive.

Keys, profiles, aliases, zones and engines are pushed anew from the database, the cache fills by itself, and beat sends its
tasks again. A record that is stored and not yet removed is in both: a request's id keeps it from counting twice."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from django.conf import settings

from aicleaner_site import valkey
from aicleaner_site.backup.errors import DamagedError
from inference.gateway.records import STREAM

Fields = dict[str, str]
BATCH = 1000


def waiting_records(work: Path) -> list[Fields] | None:
    """None: no Valkey tells. Ask before the database is copied: what is stored in between is in both, rather than in none.

    `work`: a private folder. Of an embedded server that is stopped, a copy is started there."""
    try:
        return _read(settings.VALKEY_URL)
    except redis.RedisError:
        if not settings.VALKEY_EMBEDDED:
            return None
    if not any((settings.DATA_DIR / "valkey").glob("*")):
        return []
    try:
        with _copy_of_the_stopped(work) as url:
            return _read(url)
    except (OSError, TimeoutError, redis.RedisError):
        return None


def _read(url: str) -> list[Fields]:
    found: list[Fields] = []
    start = "-"
    with redis.from_url(url, socket_timeout=10, socket_connect_timeout=2) as client:
        while batch := _batch(client, start):
            found += [{_text(name): _text(value) for name, value in fields.items()} for _, fields in batch]
            start = f"({_text(batch[-1][0])}"
    return found


def _batch(client: "redis.Redis", start: str) -> list[tuple[Any, dict[Any, Any]]]:
    answer: Any = client.xrange(STREAM, min=start, count=BATCH)
    return list(answer)


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")


@contextmanager
def _copy_of_the_stopped(work: Path) -> Iterator[str]:
    """Its files stay as they are; the socket lies in /tmp, as paths of sockets are short."""
    shutil.copytree(settings.DATA_DIR / "valkey", work / "valkey")
    with (
        tempfile.TemporaryDirectory(prefix="aic-") as folder,
        valkey.ValkeyServer(Path(folder) / "valkey.sock", work / "valkey") as server,
    ):
        yield server.url


def as_lines(records: list[Fields]) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in records)


def from_lines(text: bytes) -> list[dict[bytes, bytes] | None]:
    """As the stream gives them. Raises DamagedError."""
    try:
        found = [json.loads(line).items() for line in text.splitlines()]
        return [{name.encode(): value.encode() for name, value in fields} for fields in found]
    except (ValueError, AttributeError) as error:
        raise DamagedError("It is damaged: its request records can't be read.") from error
