"""Who may ask: the decision at the entry, without a server."""

import ipaddress
import time
from pathlib import Path
from typing import Any

import pytest

from inference.gateway.access import ALWAYS, NEVER, REMOTE, Access, AccessRules, Refusal, tokens_used
from inference.gateway.api_keys import ApiKeys, month_of
from inference.gateway.callers import MAX_ADDRESSES, WRONG_PER_MINUTE, Guard, Proxies, is_loopback
from inference.gateway.headers import outgoing
from inference.gateway.meter import Meter
from inference.gateway.records import Records
from inference.gateway.tokens import digest_of, gateway_secret, internal_token, new_token, token_in

SECRET = gateway_secret("only-for-tests")
TOKEN = new_token()
HOST = (b"host", b"127.0.0.1:11435")
Pairs = list[tuple[bytes, bytes]]


def key(token: str = TOKEN, **values: Any) -> dict[str, Any]:
    return {"id": 7, "name": "home", "digest": digest_of(token.encode(), SECRET).hex(), **values}


def access(
    *keys: dict[str, Any], require: str = REMOTE, proxies: tuple[str, ...] = (), **state: Any
) -> Access:
    found = ApiKeys("redis://127.0.0.1:1", SECRET)
    if keys:
        found.take({"keys": list(keys), "month": month_of(time.time()), "used": {}, **state})
    trusted = Proxies(tuple(map(ipaddress.ip_network, proxies)))
    return Access(found, AccessRules(SECRET, require, None, trusted), Records(found.client))


def bearer(token: str = TOKEN) -> Pairs:
    return [(b"authorization", f"Bearer {token}".encode())]


def ask(
    at: Access, headers: Pairs, ip: str = "10.0.0.9", *, path: str = "/api/chat", method: str = "POST"
) -> tuple[Refusal | None, Meter]:
    meter = Meter("r", path, "test", ip, counted=path in {"/api/chat", "/v1/chat/completions"})
    sent = [HOST, *headers]
    return at.enter({"path": path, "method": method, "headers": sent}, dict(sent), meter), meter


def status(*args: Any, **more: Any) -> int:
    refusal = ask(*args, **more)[0]
    return refusal.status if refusal else 200


# --- without a key ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ip", "headers", "expected"),
    [
        ("127.0.0.1", [], {REMOTE: 200, ALWAYS: 401, NEVER: 200}),
        ("127.8.9.1", [], {REMOTE: 200, ALWAYS: 401, NEVER: 200}),
        ("::1", [], {REMOTE: 200, ALWAYS: 401, NEVER: 200}),
        ("::ffff:127.0.0.1", [], {REMOTE: 200, ALWAYS: 401, NEVER: 200}),
        ("10.0.0.9", [], {REMOTE: 401, ALWAYS: 401, NEVER: 200}),
        ("fe80::1", [], {REMOTE: 401, ALWAYS: 401, NEVER: 200}),
        ("", [], {REMOTE: 401, ALWAYS: 401, NEVER: 200}),
        # What a proxy on this machine passes on is not of this machine, whatever it says.
        ("127.0.0.1", [(b"x-forwarded-for", b"127.0.0.1")], {REMOTE: 401, ALWAYS: 401, NEVER: 200}),
        ("127.0.0.1", [(b"forwarded", b"for=127.0.0.1")], {REMOTE: 401, ALWAYS: 401, NEVER: 200}),
        ("127.0.0.1", [(b"x-real-ip", b"127.0.0.1")], {REMOTE: 401, ALWAYS: 401, NEVER: 200}),
        ("127.0.0.1", [(b"via", b"1.1 proxy")], {REMOTE: 401, ALWAYS: 401, NEVER: 200}),
        ("10.0.0.9", [(b"x-forwarded-for", b"127.0.0.1")], {REMOTE: 401, ALWAYS: 401, NEVER: 200}),
        # A page of elsewhere whose name was bound to this machine.
        ("127.0.0.1", [(b"host", b"evil.example")], {REMOTE: 401, ALWAYS: 401, NEVER: 200}),
        # A credential that is none of ours is the engine's.
        ("127.0.0.1", [(b"authorization", b"Bearer ollama")], {REMOTE: 200, ALWAYS: 401, NEVER: 200}),
        ("10.0.0.9", [(b"authorization", b"Bearer ollama")], {REMOTE: 401, ALWAYS: 401, NEVER: 200}),
        ("10.0.0.9", [(b"authorization", b"Basic YWljLXg6eA==")], {REMOTE: 401, ALWAYS: 401, NEVER: 200}),
    ],
)
def test_who_needs_a_key(ip: str, headers: Pairs, expected: dict[str, int]) -> None:
    for require, code in expected.items():
        assert status(access(key(), require=require), headers, ip) == code, require


def test_a_trusted_proxy_is_believed_and_only_what_it_saw_itself() -> None:
    at = access(key(), proxies=("10.0.0.1", "172.16.0.0/12"))

    def seen(peer: str, chain: str) -> tuple[int, str]:
        refusal, meter = ask(at, [(b"x-forwarded-for", chain.encode())], peer)
        return (refusal.status if refusal else 200), meter.client_ip

    assert seen("10.0.0.1", "192.0.2.7") == (401, "192.0.2.7")
    assert seen("10.0.0.1", "127.0.0.1, 192.0.2.7") == (401, "192.0.2.7")  # the client wrote the first one
    assert seen("10.0.0.1", "192.0.2.7, 172.16.5.5") == (401, "192.0.2.7")
    assert seen("10.0.0.1", "nonsense") == (401, "nonsense")
    assert seen("10.0.0.1", "127.0.0.1") == (200, "127.0.0.1")
    assert seen("10.0.0.2", "127.0.0.1") == (401, "10.0.0.2")


# --- with a key -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("require", [REMOTE, ALWAYS, NEVER])
@pytest.mark.parametrize("ip", ["127.0.0.1", "10.0.0.9"])
def test_a_known_key_comes_in_and_a_wrong_one_does_not_whatever_is_required(require: str, ip: str) -> None:
    at = access(key(), require=require)
    assert status(at, bearer(), ip) == 200
    assert status(at, [(b"x-api-key", TOKEN.encode())], ip) == 200
    assert status(at, [(b"authorization", b"bearer  " + TOKEN.encode())], ip) == 200
    for wrong in (
        TOKEN[:-1],
        TOKEN + "x",
        new_token(),
        "aic-",
        "aic-" + "x" * 5000,
        "aic-" + TOKEN[4:].swapcase(),
    ):
        assert status(at, bearer(wrong), ip) == 401


def test_nothing_of_a_key_reaches_the_engine_even_beside_another_credential() -> None:
    """Nor of a wrong one; a credential of another kind passes."""
    at = access(key(), require=NEVER)
    for headers in (
        bearer(),
        [(b"x-api-key", TOKEN.encode())],
        [*bearer("other"), *bearer()],
        [*bearer(), (b"authorization", b"Bearer other")],
        [(b"x-api-key", b"other"), *bearer()],
    ):
        _, meter = ask(at, headers, "127.0.0.1")
        assert not any("aic-" in value for _, value in outgoing(headers, meter)), headers
    other = [(b"authorization", b"Bearer other")]
    _, meter = ask(at, other, "127.0.0.1")
    assert outgoing(other, meter) == [("authorization", "Bearer other")]


def test_each_state_of_a_key_has_its_answer() -> None:
    assert status(access(key(enabled=False)), bearer()) == 401
    assert status(access(key(expires_at=time.time() - 1)), bearer()) == 401
    assert status(access(key(expires_at=time.time() + 60)), bearer()) == 200
    assert status(access(), bearer()) == 503  # nobody has said yet which keys there are
    assert status(access(key(TOKEN + "y")), bearer()) == 401


def test_a_key_uses_models_and_changes_them_only_if_it_may() -> None:
    plain, manager = access(key()), access(key(manages=True))
    for method, path in (
        ("POST", "/api/copy"),
        ("DELETE", "/api/delete"),
        ("POST", "/api/blobs/sha256:0"),
        ("POST", "/api/generate/"),
        ("OPTIONS", "/api/tags"),
    ):
        assert status(plain, bearer(), path=path, method=method) == 403
        assert status(manager, bearer(), path=path, method=method) == 200
    for method, path in (("GET", "/api/tags"), ("HEAD", "/"), ("POST", "/api/show"), ("GET", "/v1/models")):
        assert status(plain, bearer(), path=path, method=method) == 200


@pytest.mark.parametrize(
    ("model", "values", "expected"),
    [
        ("llama3:8b", {"model": "llama3:8b"}, 200),
        ("qwen", {"model": "qwen"}, 200),
        ("qwen:latest", {"model": "qwen:latest"}, 200),
        ("qwen:7b", {"model": "qwen:7b"}, 403),
        ("mistral", {"model": "mistral"}, 403),
        ("", {}, 403),
        ("llama3:8b", {"model": "llama3:8b", "MODEL": "mistral"}, 400),  # Go would take the second one
        ("", None, 400),  # no JSON here may be some to an engine
    ],
)
def test_allowed_models_and_what_could_be_read_otherwise(
    model: str, values: dict[str, Any] | None, expected: int
) -> None:
    at = access(key(models=["llama3*", "qwen"]))
    _, meter = ask(at, bearer())
    meter.model = model
    assert meter.key is not None
    refusal = at.body_refused(meter.key, values, meter)
    assert (refusal.status if refusal else 200) == expected


def test_a_limit_of_requests_says_when_to_come_again() -> None:
    at = access(key(requests_per_minute=3))
    found = [ask(at, bearer()) for _ in range(4)]
    assert [refusal is None for refusal, _ in found] == [True, True, True, False]
    refusal, meter = found[-1]
    assert refusal is not None
    assert (refusal.status, refusal.code) == (429, "rate_limit_exceeded")
    assert refusal.wait_s == pytest.approx(20, abs=1)
    told = dict(meter.extra_headers)
    assert told[b"x-ratelimit-limit-requests"] == b"3"
    assert told[b"x-ratelimit-remaining-requests"] == b"0"
    assert status(at, bearer(), path="/api/tags", method="GET") == 200  # no inference


def test_a_limit_of_tokens_is_charged_at_the_end() -> None:
    at = access(key(tokens_per_minute=100))
    _, meter = ask(at, bearer())
    assert meter.key is not None
    at.finish(meter.key, meter, record(prompt_tokens=80, output_tokens=100))
    refusal, _ = ask(at, bearer())
    assert refusal is not None
    assert refusal.wait_s == pytest.approx(49, abs=1)  # 80 below nothing, and one to come in


@pytest.mark.parametrize(
    ("limit", "used", "cost"), [({"tokens_per_month": 1000}, 999, 0.0), ({"usd_per_month": 2.0}, 5, 1.99)]
)
def test_a_budget_counts_what_was_stored_and_what_came_since(
    limit: dict[str, Any], used: int, cost: float
) -> None:
    at = access(key(**limit), used={"7": [used, cost]})
    refusal, meter = ask(at, bearer())
    assert refusal is None
    assert meter.key is not None
    at.finish(meter.key, meter, record(prompt_tokens=1, output_tokens=0))
    at.keys.take({"keys": [key(**limit)], "month": month_of(time.time()), "used": {"7": [0, 2.01]}})
    refusal, meter = ask(at, bearer())
    assert refusal is not None
    assert (refusal.status, refusal.code) == (429, "insufficient_quota")
    assert "budget" in refusal.text
    assert refusal.wait_s is not None
    assert 0 < refusal.wait_s <= 31 * 86_400
    state = {"keys": [key(**limit)], "month": month_of(time.time()), "used": {"7": [0, 0.0]}}
    at.keys.take(state)  # the database is behind: what was used here stays used
    assert status(at, bearer()) == 429
    meter.at += 32 * 86_400
    at.keys.uses[7].turn_to(month_of(meter.at))
    assert at.keys.uses[7].n_tokens == 0


def record(**values: Any) -> dict[str, Any]:
    return {"cache": "miss", "status": 200, "prompt_tokens": None, "output_tokens": None, **values}


def test_what_nobody_counts_is_estimated_and_what_was_not_made_costs_nothing() -> None:
    meter = Meter("r", "/v1/chat/completions", "c", "", counted=True, engine_kind="ollama", prompt_bytes=41)
    meter.n_untold = 12
    assert tokens_used(meter, record()) == 11 + 12
    assert tokens_used(meter, record(status=0)) == 11 + 12  # the client left amid the stream
    assert tokens_used(meter, record(prompt_tokens=7, output_tokens=3)) == 10
    assert tokens_used(meter, record(prompt_tokens=7, output_tokens=3, cache="hit")) == 0
    assert tokens_used(meter, record(status=404)) == 0


# --- guessing ---------------------------------------------------------------------------------------------


def test_guesses_are_bounded_and_lock_nobody_else_out() -> None:
    at = access(key(), key("aic-" + "n" * 40, id=8, name="new"))
    assert status(at, bearer()) == 200  # known from this address before
    codes = [status(at, bearer(new_token())) for _ in range(WRONG_PER_MINUTE + 20)]
    assert codes == [401] * WRONG_PER_MINUTE + [429] * 20
    assert status(at, bearer("aic-" + "n" * 40)) == 429  # even a right one, unread
    assert status(at, bearer()) == 200
    assert status(at, bearer("aic-" + "n" * 40), "10.0.0.10") == 200
    assert status(at, bearer(internal_token(SECRET))) == 200


def test_an_ipv6_line_is_one_caller_and_the_table_is_bounded() -> None:
    guard = Guard()
    for n in range(WRONG_PER_MINUTE):
        guard.line(f"2001:db8::{n:x}", 0.0).guessed_wrong(0.0)
    assert guard.line("2001:db8::ffff", 0.0).wrong.wait_s(1, 0.0) > 0
    assert guard.line("2001:db8:0:1::1", 0.0).wrong.wait_s(1, 0.0) == 0
    assert guard.line("2001:db8::ffff", 60.0).wrong.wait_s(1, 60.0) == 0
    for n in range(MAX_ADDRESSES + 5):
        guard.line(f"10.{n >> 16}.{(n >> 8) & 255}.{n & 255}", 0.0)
    assert len(guard._lines) == MAX_ADDRESSES


def test_how_near_a_guess_is_shows_nowhere() -> None:
    """Tokens are found by a digest that nobody can steer: a guess with the right beginning looks in a place as far off as any
    other. Measured too, by turns: half of the time of both kinds is the same within a fifth."""
    keys = access(key()).keys
    right = digest_of(TOKEN.encode(), SECRET)
    near = [TOKEN[:-1] + each for each in "abcdefghijklmnop" if not TOKEN.endswith(each)]
    assert all(digest_of(each.encode(), SECRET)[:4] != right[:4] for each in near)
    far = [new_token() for _ in near]
    for _ in range(5):
        times: dict[str, list[int]] = {"near": [], "far": []}
        for n in range(4000):
            for name, tokens in (("near", near), ("far", far)):
                token = tokens[n % len(tokens)].encode()
                begun = time.perf_counter_ns()
                keys.find(token)
                times[name].append(time.perf_counter_ns() - begun)
        a, b = (sorted(each)[len(each) // 2] for each in times.values())
        if 0.8 < a / b < 1.25:
            return
    pytest.fail(f"{a} ns near, {b} ns far")


# --- what is kept -----------------------------------------------------------------------------------------


def test_the_file_keeps_hashes_only_for_the_owner_and_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    first = ApiKeys("redis://127.0.0.1:1", SECRET, file)
    first.take({"keys": [key(models=["a*"])], "month": "2026-11", "used": {"7": [40, 0.5]}})
    assert file.stat().st_mode & 0o777 == 0o600
    assert TOKEN not in file.read_text()
    first.uses[7].n_tokens += 5
    first.save()
    again = ApiKeys("redis://127.0.0.1:1", SECRET, file)
    again.read_file()
    found = again.find(TOKEN.encode())
    assert found is not None
    assert (found.name, found.models, again.uses[7].n_tokens) == ("home", ("a*",), 45)
    assert ApiKeys("redis://127.0.0.1:1", gateway_secret("another"), file).find(TOKEN.encode()) is None
    file.write_text("{")
    broken = ApiKeys("redis://127.0.0.1:1", SECRET, file)
    broken.read_file()
    assert not broken.known


@pytest.mark.parametrize(
    "wrong",
    [
        {"keys": [key(digest="00")], "month": "2026-11", "used": {}},
        {"keys": [key(id=0)], "month": "2026-11", "used": {}},
        {"keys": [key(admin=True)], "month": "2026-11", "used": {}},
        {"keys": [key(digest="zz")], "month": "2026-11", "used": {}},
        {"keys": [{"id": 1}], "month": "2026-11", "used": {}},
        {"month": "2026-11", "used": {}},
    ],
)
def test_a_state_that_makes_no_sense_changes_nothing(wrong: dict[str, Any]) -> None:
    at = access(key())
    with pytest.raises((ValueError, TypeError, KeyError)):
        at.keys.take(wrong)
    assert status(at, bearer()) == 200


def test_a_push_fills_no_bucket() -> None:
    at = access(key(requests_per_minute=2))
    assert [status(at, bearer()) for _ in range(3)] == [200, 200, 429]
    at.keys.take({"keys": [key(requests_per_minute=2)], "month": "2026-11", "used": {}})
    assert status(at, bearer()) == 429


def test_helpers_read_what_clients_send() -> None:
    assert token_in([(b"authorization", b"Token aic-x"), (b"cookie", b"aic-x")]) is None
    assert token_in([(b"authorization", b"")]) is None
    assert is_loopback("localhost")
    assert not is_loopback("0.0.0.0")
