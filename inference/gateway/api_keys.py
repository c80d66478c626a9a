"""The API keys that the console knows, and what each has used: hashes and limits only, pushed and kept in a file.

The file is for a start while Valkey is away: who had a key goes on, and nobody else comes in."""

import asyncio
import hmac
import json
import logging
import os
import time
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from inference.gateway.buckets import Bucket
from inference.gateway.pushed import API_KEYS, Pushed
from inference.gateway.tokens import digest_of, has_shape, internal_token

SAVE_EVERY_S = 30.0
REFUSALS_PER_MINUTE = 60  # of a key that make a record: a client that tries without end fills no database
INDEX_BYTES = 8
log = logging.getLogger("inference.gateway")


@dataclass(frozen=True, slots=True)
class Key:
    """None: no limit. `expires_at`: seconds since 1970. `models`: globs of names; empty: all. `manages`: may change what
    models there are. `digest`: in hex."""

    id: int
    name: str
    digest: str
    enabled: bool = True
    expires_at: float | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_month: int | None = None
    usd_per_month: float | None = None
    models: tuple[str, ...] = ()
    manages: bool = False
    frame_distance: int | None = None


@dataclass(slots=True)
class Use:
    """Of one key. `month` is that of the others: what the database knows, and of tokens what came since. A price is known
    there only."""

    refusals: Bucket
    requests: Bucket | None = None
    tokens: Bucket | None = None
    month: str = ""
    n_tokens: int = 0
    cost_usd: float = 0.0

    def turn_to(self, month: str) -> None:
        if month > self.month:
            self.month, self.n_tokens, self.cost_usd = month, 0, 0.0


FIELDS = frozenset(each.name for each in fields(Key))


class ApiKeys(Pushed):
    """`file`: None keeps nothing over a restart. `known` is false until somebody has said which keys there are."""

    def __init__(self, valkey_url: str, secret: bytes, file: Path | None = None) -> None:
        super().__init__(valkey_url, API_KEYS)
        self.secret, self.file = secret, file
        self.internal = Key(0, "", digest_of(internal_token(secret).encode(), secret).hex())
        self.known = False
        self.by_id: dict[int, Key] = {}
        self.uses: dict[int, Use] = {}
        self._by_digest: dict[bytes, tuple[bytes, Key]] = {}
        self._index({})
        self._saved = ""
        self._cannot_save = False

    def find(self, token: bytes) -> Key | None:
        """Where the table looks says nothing about the token: only who has the secret knows its digest. The rest of it is
        compared in a time that does not depend on where they differ."""
        if not has_shape(token):
            return None
        digest = digest_of(token, self.secret)
        found = self._by_digest.get(digest[:INDEX_BYTES])
        return found[1] if found is not None and hmac.compare_digest(found[0], digest) else None

    def take(self, state: dict[str, Any]) -> None:
        """`{"keys": [fields of Key], "month": "2026-11", "used": {"7": [tokens, USD]}}`"""
        keys = {each["id"]: _key(each) for each in state["keys"]}
        month, used = str(state["month"]), {int(name): each for name, each in state["used"].items()}
        now, uses = time.monotonic(), {}
        for key_id, key in keys.items():
            use = self.uses.get(key_id) or Use(Bucket(REFUSALS_PER_MINUTE, now))
            use.requests = _sized(use.requests, key.requests_per_minute, now)
            use.tokens = _sized(use.tokens, key.tokens_per_minute, now)
            n_tokens, cost = used.get(key_id, (0, 0.0))
            use.turn_to(month)
            if use.month == month:  # what was used here is stored there soon: the larger one has seen more
                use.n_tokens, use.cost_usd = max(use.n_tokens, int(n_tokens)), max(use.cost_usd, float(cost))
            uses[key_id] = use
        changed = keys != self.by_id
        self.by_id, self.uses, self.known = keys, uses, True
        self._index(keys)
        if changed:
            self.save()

    def read_file(self) -> None:
        """The keys that were known last; what Valkey says later takes their place."""
        if self.file is None:
            return
        try:
            text = self.file.read_text()
            self.take(json.loads(text))
            self._saved = text
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            log.warning("%s holds no API keys (%s): they come by Valkey", self.file, error)

    def save(self) -> None:
        if self.file is None or not self.known:
            return
        text = json.dumps(self._state())
        if text == self._saved:
            return
        half = self.file.with_name(f"{self.file.name}.{os.getpid()}")
        try:
            with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
                out.write(text)
            half.replace(self.file)
            self._saved, self._cannot_save = text, False
        except OSError as error:
            if not self._cannot_save:
                log.warning(
                    "%s can't be written (%s): a start without Valkey knows older keys", self.file, error
                )
            self._cannot_save = True

    async def keep(self) -> None:
        """What was used, every SAVE_EVERY_S."""
        while True:
            await asyncio.sleep(SAVE_EVERY_S)
            self.save()

    def _state(self) -> dict[str, Any]:
        newest = max((use.month for use in self.uses.values()), default="")
        used = {
            key_id: [use.n_tokens, use.cost_usd] for key_id, use in self.uses.items() if use.month == newest
        }
        return {"keys": [asdict(key) for key in self.by_id.values()], "month": newest, "used": used}

    def _index(self, keys: dict[int, Key]) -> None:
        found = {}
        for key in (self.internal, *keys.values()):
            digest = bytes.fromhex(key.digest)
            found[digest[:INDEX_BYTES]] = (digest, key)
        self._by_digest = found


def _key(values: dict[str, Any]) -> Key:
    if unknown := values.keys() - FIELDS:
        raise ValueError(f"a key has no {min(unknown)}")
    key = Key(**{**values, "models": tuple(values.get("models", ()))})
    if len(bytes.fromhex(key.digest)) != 32 or not isinstance(key.id, int) or key.id < 1:
        raise ValueError(f"key {key.name!r} has no digest or id")
    return key


def _sized(bucket: Bucket | None, per_minute: int | None, now: float) -> Bucket | None:
    if per_minute is None:
        return None
    if bucket is None:
        return Bucket(per_minute, now)
    if bucket.per_minute != per_minute:
        bucket.resize(per_minute, now)
    return bucket


def month_of(at: float) -> str:
    """The calendar month in UTC."""
    return _month_of_day(int(at // 86_400))


@lru_cache(maxsize=64)
def _month_of_day(day: int) -> str:
    now = time.gmtime(day * 86_400)
    return f"{now.tm_year:04}-{now.tm_mon:02}"
