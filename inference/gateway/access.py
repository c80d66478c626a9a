"""Who may ask, and how much: the check at the entry of a request, and what it used at its end.

Anything that is not known counts against the caller: without keys nobody comes in from elsewhere. docs/keys.md has the rules."""

import json
import logging
import math
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

from inference.gateway.answers import openai_error, respond
from inference.gateway.api_keys import ApiKeys, Key, Use, month_of
from inference.gateway.asgi import Scope, Send
from inference.gateway.buckets import Bucket
from inference.gateway.callers import FORWARDED, Guard, Proxies, is_loopback
from inference.gateway.meter import Meter
from inference.gateway.records import Records
from inference.gateway.tokens import token_in
from inference.names import full_name
from inference.origins import is_local

ALWAYS, REMOTE, NEVER = "always", "remote", "never"
OF_REQUESTS = (
    b"x-ratelimit-limit-requests",
    b"x-ratelimit-remaining-requests",
    b"x-ratelimit-reset-requests",
)
OF_TOKENS = (b"x-ratelimit-limit-tokens", b"x-ratelimit-remaining-tokens", b"x-ratelimit-reset-tokens")
BYTES_PER_TOKEN = 4  # of a prompt whose tokens nobody tells
READ_ONLY = frozenset({"GET", "HEAD"})
ASKS_ABOUT_MODELS = frozenset({"/api/show"})  # a POST that changes nothing
ANTHROPIC = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    503: "api_error",
}
log = logging.getLogger("inference.gateway")

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Refusal:
    """`code`: OpenAI's. `is_recorded`: one of the entry that makes a record, since its key is known."""

    status: int
    text: str
    code: str
    wait_s: float | None = None
    is_recorded: bool = False


@dataclass(frozen=True)
class AccessRules:
    """`require`: ALWAYS; REMOTE, from other machines only; NEVER. `secret`: of the tokens' hashes. `file`: where the keys that
    were known last are kept."""

    secret: bytes
    require: str = REMOTE
    file: Path | None = None
    proxies: Proxies = field(default_factory=Proxies)


class Access:
    def __init__(self, keys: ApiKeys, rules: AccessRules, records: Records) -> None:
        self.keys, self.records = keys, records
        self.require, self.proxies = rules.require, rules.proxies
        self.guard = Guard()
        self.n_refused = 0

    def enter(self, scope: Scope, found: dict[bytes, bytes], meter: Meter) -> Refusal | None:
        """None: may go on. `found`: the last header of each name."""
        believed = False
        if self.proxies.trusted and self.proxies.trusts(meter.client_ip) and b"x-forwarded-for" in found:
            meter.client_ip, believed = self.proxies.caller(meter.client_ip, scope["headers"]), True
        if b"authorization" in found or b"x-api-key" in found:
            token = token_in(scope["headers"])
            if token is not None:
                meter.hides_credentials = True
                refusal = self._enter_with(token, scope, meter, time.monotonic())
                self.n_refused += refusal is not None
                return refusal
        if self.require == NEVER or (self.require == REMOTE and _is_here(meter.client_ip, found, believed)):
            return None
        self.n_refused += 1
        how = "send Authorization: Bearer aic-..., with a key from the console's page of API keys"
        return Refusal(401, f"this gateway needs an API key: {how}", "missing_api_key")

    def _enter_with(self, token: bytes, scope: Scope, meter: Meter, now: float) -> Refusal | None:
        key = self.keys.find(token)
        if key is self.keys.internal:
            return None
        line = self.guard.line(meter.client_ip, now)
        wait_s = 0.0 if key is not None and key.id in line.known else line.wrong.wait_s(1, now)
        if wait_s:
            return Refusal(
                429, "too many wrong API keys came from this address", "rate_limit_exceeded", wait_s
            )
        if key is None and not self.keys.known:
            return Refusal(503, "the gateway does not know its API keys yet", "keys_unknown", 5.0)
        if key is None:
            if line.guessed_wrong(now):
                log.warning(
                    "many wrong API keys from %s: others are refused unread for a while", meter.client_ip
                )
            return Refusal(401, "this API key is not known", "invalid_api_key")
        line.known.add(key.id)
        use = self.keys.uses[key.id]
        meter.key = key
        refusal = _state_of(key, meter) or _way_of(key, scope, meter) or _used_up(key, use, meter)
        return refusal or _limits_of(key, use, meter, now)

    def body_refused(self, key: Key, values: dict[str, Any] | None, meter: Meter) -> Refusal | None:
        """Of a request for inference: a key lets nothing pass that was not understood here, since an engine may understand it
        otherwise (Go takes a second `MODEL` for the model, and JSON with something behind it). The name that the client
        used has to be allowed, whatever answers for it."""
        if values is None or any(name != "model" and name.lower() == "model" for name in values):
            return Refusal(400, "the request is no JSON object with one model", "invalid_request")
        if not key.models or _allows(key.models, meter.model):
            return None
        text = f"the API key {key.name!r} may not use model {meter.model!r}"
        return Refusal(403, text, "model_not_allowed")

    async def refuse(self, refusal: Refusal, meter: Meter, send: Send) -> None:
        """In the shape of the API that was asked; with a record of its own where `is_recorded`."""
        meter.error = refusal.text
        if refusal.wait_s is not None:
            retry = (b"retry-after", str(max(math.ceil(refusal.wait_s), 1)).encode())
            meter.extra_headers = (*meter.extra_headers, retry)
        if refusal.status == 401:
            meter.extra_headers = (*meter.extra_headers, (b"www-authenticate", b"Bearer"))
        body: dict[str, Any] = {"error": refusal.text}
        if meter.path == "/v1/messages":
            error = {"type": ANTHROPIC[refusal.status], "message": refusal.text}
            body = {"type": "error", "error": error}
        elif meter.path.startswith("/v1/"):
            kind = refusal.code if refusal.code == "insufficient_quota" else "invalid_request_error"
            body = {"error": {**openai_error(refusal.text), "type": kind, "code": refusal.code}}
        await respond(send, meter, refusal.status, json.dumps(body).encode(), "application/json")
        if not refusal.is_recorded or meter.key is None or not meter.counted:
            return
        use = self.keys.uses.get(meter.key.id)
        if use is not None and use.refusals.take(1, time.monotonic()):
            record = meter.record()
            self.finish(meter.key, meter, record)
            self.records.add(record)

    def finish(self, key: Key, meter: Meter, record: dict[str, Any]) -> None:
        """Charge the key with what the request used, and name it in the record."""
        tokens = tokens_used(meter, record)
        record |= {"api_key": key.name, "api_key_id": key.id, "api_key_tokens": tokens}
        use = self.keys.uses.get(key.id)
        if use is None:  # deleted meanwhile
            return
        if use.tokens is not None and tokens:
            use.tokens.charge(tokens, time.monotonic())
        month = month_of(meter.at)
        use.turn_to(month)
        if use.month == month:
            use.n_tokens += tokens


def tokens_used(meter: Meter, record: dict[str, Any]) -> int:
    """Prompt and answer, as the engine counted them. What it did not tell is estimated: a prompt by its bytes, an answer by
    the pieces of its stream. A kept answer and a refused request used none."""
    if record["cache"] == "hit":
        return 0
    prompt, output = record["prompt_tokens"], record["output_tokens"]
    # 0: the client left before the answer; the prompt was on its way to the engine then.
    ran = record["status"] in {0, 200} and bool(meter.engine_kind)
    if prompt is None:
        prompt = -(-(meter.prompt_bytes or 0) // BYTES_PER_TOKEN) if ran else 0
    if output is None:
        output = max(meter.n_chunks, meter.n_untold) if ran else 0
    return int(prompt + output)


def _is_here(ip: str, found: dict[bytes, bytes], believed: bool) -> bool:
    """This machine, and not a proxy on it that passes on what others ask, nor a page of elsewhere by a rebound name."""
    host = found.get(b"host", b"").decode("latin-1")
    if not is_loopback(ip) or (host and not is_local(host)):
        return False
    return believed or FORWARDED.isdisjoint(found)


def _state_of(key: Key, meter: Meter) -> Refusal | None:
    if not key.enabled:
        return Refusal(401, f"the API key {key.name!r} is disabled", "invalid_api_key", is_recorded=True)
    if key.expires_at is not None and meter.at >= key.expires_at:
        text = f"the API key {key.name!r} has expired on {_written(key.expires_at)}"
        return Refusal(401, text, "invalid_api_key", is_recorded=True)
    return None


def _way_of(key: Key, scope: Scope, meter: Meter) -> Refusal | None:
    """What is neither a question nor inference changes the models: a copy could give any of them an allowed name."""
    if meter.counted or key.manages or scope["method"] in READ_ONLY or scope["path"] in ASKS_ABOUT_MODELS:
        return None
    text = f"the API key {key.name!r} may use models, not change them"
    return Refusal(403, text, "permission_denied")


def _used_up(key: Key, use: Use, meter: Meter) -> Refusal | None:
    if not meter.counted or (key.tokens_per_month is None and key.usd_per_month is None):
        return None
    use.turn_to(month_of(meter.at))
    if key.tokens_per_month is not None and use.n_tokens >= key.tokens_per_month:
        what = f"{key.tokens_per_month:,} tokens"
    elif key.usd_per_month is not None and use.cost_usd >= key.usd_per_month:
        what = f"{key.usd_per_month:,.2f} USD"
    else:
        return None
    begin = _next_month(meter.at)
    text = (
        f"the budget of API key {key.name!r}, {what} a month, is used up; it begins anew on {_written(begin)}"
    )
    return Refusal(429, text, "insufficient_quota", begin - meter.at, is_recorded=True)


def _limits_of(key: Key, use: Use, meter: Meter, now: float) -> Refusal | None:
    if not meter.counted or (use.requests is None and use.tokens is None):
        return None
    refusal = None
    for what, bucket in (("tokens", use.tokens), ("requests", use.requests)):
        if bucket is None or refusal is not None:
            continue
        wait_s = bucket.wait_s(1, now)
        if wait_s > 0:
            text = (
                f"the API key {key.name!r} is limited to {bucket.per_minute:,.0f} {what} a minute: "
                f"try again in {max(math.ceil(wait_s), 1)} s"
            )
            refusal = Refusal(429, text, "rate_limit_exceeded", wait_s, is_recorded=True)
    if refusal is None and use.requests is not None:
        use.requests.take(1, now)
    meter.extra_headers = _told(OF_REQUESTS, use.requests, now) + _told(OF_TOKENS, use.tokens, now)
    return refusal


def _told(
    names: tuple[bytes, bytes, bytes], bucket: Bucket | None, now: float
) -> tuple[tuple[bytes, bytes], ...]:
    """As OpenAI's clients read it; the last: until all of the limit is there again."""
    if bucket is None:
        return ()
    left, limit = bucket.left(now), bucket.per_minute
    return (
        (names[0], b"%d" % limit),
        (names[1], b"%d" % max(left, 0)),
        (names[2], b"%.1fs" % ((limit - left) * 60 / limit)),
    )


@lru_cache(maxsize=4096)
def _allows(patterns: tuple[str, ...], model: str) -> bool:
    full = full_name(model)
    names = (model, full, full.removesuffix(":latest"))
    return any(fnmatchcase(name, each) for name in names for each in patterns)


def _next_month(at: float) -> float:
    now = datetime.fromtimestamp(at, UTC)
    year, month = divmod(now.year * 12 + now.month, 12)
    return datetime(year, month + 1, 1, tzinfo=UTC).timestamp()


def _written(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
