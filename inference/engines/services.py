"""What people do with engines."""

import asyncio
from datetime import datetime

import aiohttp
from django.db import transaction

from inference import events
from inference.aliases import selectors as aliases
from inference.engines import selectors
from inference.errors import NotAllowedError
from inference.gateway.probing import Probe, list_models, probe, reason_of
from inference.gateway.pushed import ALIASES, ENGINES
from inference.gateway.sessions import GuardedResolver, check_number
from inference.models import Engine, EngineKind
from inference.pushing import Told, log_delivery, push
from safeguards.addresses import AddressError
from safeguards.sealing import engine_secrets

TEST_WITHIN_S = 10.0


def save_engine(
    engine: Engine, key: str | None, *, who: str, now: datetime, told: Told = log_delivery
) -> None:
    """`key`: a new one; empty: none any more; None: as it was."""
    is_new = engine.pk is None
    if key is not None:
        engine.sealed = engine_secrets.seal({"key": key} if key else {})
    engine.changed_at = now
    with transaction.atomic():
        engine.save()
        events.note("gateway", f"engine {engine.name} was {'added' if is_new else 'changed'} by {who}")
        _tell(told)


def delete_engine(engine: Engine, *, who: str, told: Told = log_delivery) -> None:
    """Its requests, and what it cost, stay. Raises NotAllowedError while an alias names it."""
    with transaction.atomic():
        if used := [each.name for each in aliases.in_force() if each.cloud == engine.name]:
            raise NotAllowedError(f"{engine.name} is the fallback of {', '.join(used)}: remove that first.")
        engine.delete()
        events.note("gateway", f"engine {engine.name} was removed by {who}")
        _tell(told)


def _tell(told: Told) -> None:
    events.tell("engine", 0)
    transaction.on_commit(lambda: told(push(ENGINES, selectors.gateway_state)))
    transaction.on_commit(lambda: log_delivery(push(ALIASES, aliases.gateway_state)))


def ask_engine(
    kind: str, url: str, key: str = "", *, added: bool = True, within_s: float = TEST_WITHIN_S
) -> Probe:
    """Ask it now, as the gateway does. Never raises for what an engine does. `added`: whether a person gave the address."""
    return asyncio.run(_ask(kind, url, key, added=added, within_s=within_s))


async def _ask(kind: str, url: str, key: str, *, added: bool, within_s: float) -> Probe:
    try:
        if added:
            check_number(url)
    except AddressError as error:
        return Probe(str(error))
    connector = aiohttp.TCPConnector(resolver=GuardedResolver() if added else None, force_close=True)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        found = await probe(session, kind, url, key, timeout_s=within_s)
        if found.problem or kind == EngineKind.OPENAI:
            return found
        try:
            models = await list_models(session, url, within_s)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Probe(
                f"It tells version {found.version}, but not its models: {reason_of(error, within_s)}"
            )
    return Probe(version=found.version, latency_ms=found.latency_ms, models=models)
