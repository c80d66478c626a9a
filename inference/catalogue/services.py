"""What is done with models. Each action writes its line of the event log, whatever becomes of it."""

import json
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from redis import Redis

from inference import events
from inference.catalogue import uses
from inference.catalogue.engine import ACT_WITHIN_S, EngineApi
from inference.catalogue.memory import keep, memory_state
from inference.engines.selectors import EngineAddress
from inference.errors import EngineProblemError, InferenceError, NotAllowedError
from inference.gateway.memory import NEWS_STREAM
from inference.models import ActionState, ModelAction, ModelEvent, ModelJob
from inference.names import taken

UNLOAD_WITHIN_S, LOOK_S = 3.0, 0.1
LOAD_WITHIN_S = 1800.0
LOST_AFTER = timedelta(seconds=LOAD_WITHIN_S + 60)
KEEP_EVENTS = timedelta(days=365)
BATCH = 200
FOR_EVER = float("inf")
log = logging.getLogger(__name__)
DONE_WORDS = {
    ModelAction.PULL: "pulled",
    ModelAction.COPY: "copied",
    ModelAction.DELETE: "deleted",
    ModelAction.LOAD: "loaded",
    ModelAction.UNLOAD: "unloaded",
    ModelAction.KEEP: "set the keep-alive of",
    ModelAction.PROPOSE: "proposed a step for",
    ModelAction.START: "started a step for",
    ModelAction.DISMISS: "dismissed a step for",
    ModelAction.USE: "decided which variant answers for",
}


def record_event(
    action: ModelAction,
    engine_kind: str,
    model: str,
    *,
    who: str,
    now: datetime,
    detail: str = "",
    state: ActionState = ActionState.DONE,
    result: str = "",
    by_itself: bool = False,
) -> ModelEvent:
    with transaction.atomic():
        event = ModelEvent.objects.create(
            at=now,
            who=who,
            by_itself=by_itself,
            engine_kind=engine_kind,
            model=model[:200],
            action=action,
            detail=detail[:300],
            state=state,
            result=result[:500],
        )
        _told(event)
    return event


def end_event(event: ModelEvent, state: ActionState, result: str = "") -> None:
    with transaction.atomic():
        running = ModelEvent.objects.filter(pk=event.pk, state=ActionState.RUNNING)
        if running.update(state=state, result=result[:500]):
            event.state, event.result = state, result[:500]
            _told(event)


def _told(event: ModelEvent) -> None:
    """To the pages, and what is over to the lane of events too."""
    events.tell("models", event.pk)
    if event.state == ActionState.RUNNING:
        return
    action = ModelAction(event.action)
    if event.state == ActionState.FAILED:
        text = f"{event.who} could not {action.label.lower()} {event.model}: {event.result}"
    else:
        text = f"{event.who} {DONE_WORDS[action]} {event.model}" + (
            f": {event.detail}" if event.detail else ""
        )
    transaction.on_commit(lambda: events.note("model", text))


def copy_model(engine: EngineAddress, name: str, target: str, *, who: str, now: datetime) -> None:
    """Raises NotAllowedError when the target exists (an engine would overwrite it without a word), EngineProblemError."""
    with EngineApi(engine, within_s=ACT_WITHIN_S, url=_way()) as api:
        if there := taken(target, (str(each["name"]) for each in api.tags())):
            raise NotAllowedError(
                f"There is a model {there} already: choose another name, or delete it first."
            )
        _do(
            ModelAction.COPY,
            engine,
            name,
            lambda: api.copy(name, target),
            who=who,
            now=now,
            detail=f"to {target}",
        )


def delete_model(
    engine: EngineAddress, name: str, *, who: str, now: datetime, but_for: ModelJob | None = None
) -> None:
    """Raises NotAllowedError while it is used (by others than the job `but_for`), EngineProblemError."""
    if reason := uses.use_now(engine.name, name, but_for=but_for):
        raise NotAllowedError(f"{reason} {name} was not deleted.")
    with EngineApi(engine, within_s=ACT_WITHIN_S, url=_way()) as api:
        _do(ModelAction.DELETE, engine, name, lambda: api.delete(name), who=who, now=now)


def unload_model(engine: EngineAddress, name: str, *, who: str, now: datetime) -> str:
    """A sentence for the person. Raises EngineProblemError, NotAllowedError when it is not loaded."""
    with EngineApi(engine, within_s=ACT_WITHIN_S) as api:
        if api.find_loaded(name) is None:
            raise NotAllowedError(f"{name} is not loaded.")
        _do(ModelAction.UNLOAD, engine, name, lambda: api.unload(name), who=who, now=now)
        end = time.monotonic() + UNLOAD_WITHIN_S
        while api.find_loaded(name) is not None:
            if time.monotonic() > end:
                return f"{name} is still answering: it is unloaded when its requests are over."
            time.sleep(LOOK_S)
    return f"{name} is unloaded."


def keep_model(
    engine: EngineAddress, name: str, seconds: float, words: str, *, who: str, now: datetime
) -> None:
    """Keep a loaded model for so long after its last request, also past `unload_timeout_minutes`.

    With the context that it has: another one would load it anew. Raises EngineProblemError, NotAllowedError."""
    with EngineApi(engine, within_s=ACT_WITHIN_S) as direct:
        loaded = direct.find_loaded(name)
    if loaded is None:
        raise NotAllowedError(f"{name} is not loaded (any more): load it first.")
    context = loaded.get("context_length")
    options = {"num_ctx": context} if isinstance(context, int) and context else {}
    keep_alive = -1 if seconds == FOR_EVER else f"{seconds:g}s"
    with EngineApi(engine, within_s=ACT_WITHIN_S, url=_way()) as api:

        def do() -> None:
            api.load(name, keep_alive=keep_alive, **({"options": options} if options else {}))
            if not keep(engine.url, name, now.timestamp() + seconds):
                raise EngineProblemError(
                    f"{engine.label} keeps {name}, but Valkey is away: the gateway may unload it sooner."
                )

        _do(ModelAction.KEEP, engine, name, do, who=who, now=now, detail=words)


def ask_to_load(engine: EngineAddress, name: str, *, who: str, now: datetime) -> ModelEvent:
    """The worker does it: it may take minutes. Raises NotAllowedError when one is on its way already."""
    with transaction.atomic():
        running = ModelEvent.objects.filter(
            engine_kind=engine.name, model=name, action=ModelAction.LOAD, state=ActionState.RUNNING
        )
        if running.exists():
            raise NotAllowedError(f"{name} is being loaded already.")
        return record_event(ModelAction.LOAD, engine.name, name, who=who, now=now, state=ActionState.RUNNING)


def load(event: ModelEvent, engine: EngineAddress) -> None:
    """With the options of the profile in use, so that the next request does not load it anew."""
    started = time.monotonic()
    try:
        with EngineApi(engine, within_s=LOAD_WITHIN_S, url=_way()) as api:
            api.load(event.model)
    except EngineProblemError as error:
        end_event(event, ActionState.FAILED, str(error))
    else:
        end_event(event, ActionState.DONE, f"in {time.monotonic() - started:.1f} s")


def end_lost_loads(*, before: datetime) -> None:
    for event in ModelEvent.objects.filter(state=ActionState.RUNNING, at__lt=before):
        end_event(event, ActionState.FAILED, "the process that loaded it is gone")


def _way() -> str:
    """Through the gateway while it runs: it adds the profile's options, and knows at once of a model that came or went."""
    return "" if memory_state().problem else str(settings.GATEWAY_URL)


def _do(
    action: ModelAction,
    engine: EngineAddress,
    name: str,
    do: Callable[[], None],
    *,
    who: str,
    now: datetime,
    detail: str = "",
) -> None:
    try:
        do()
    except InferenceError as error:
        record_event(
            action,
            engine.name,
            name,
            who=who,
            now=now,
            detail=detail,
            state=ActionState.FAILED,
            result=str(error),
        )
        raise
    record_event(action, engine.name, name, who=who, now=now, detail=detail)


def store_gateway_news(client: "Redis") -> int:
    """What came and went at the engines, from the gateway's stream; how many pieces were read.

    Removed only after the commit; what a killed worker had stored counts once by its id."""
    n_read = 0
    while batch := _batch(client):
        with transaction.atomic():
            for news_id, news in batch:
                _store(news_id, news)
        client.xdel(NEWS_STREAM, *(news_id for news_id, _ in batch))
        n_read += len(batch)
    return n_read


def _batch(client: "Redis") -> list[tuple[str, bytes]]:
    answer: Any = client.xrange(NEWS_STREAM, count=BATCH)
    return [(entry.decode(), fields.get(b"n", b"")) for entry, fields in answer]


def _store(news_id: str, raw: bytes) -> None:
    """What is no news of ours is logged and let go, lest it hold up all others."""
    try:
        news = json.loads(raw)
        if news["what"] == "unload":
            _store_unload(news_id, news)
        else:
            events.tell("models", 0)
    except (KeyError, TypeError, ValueError, OverflowError):
        log.exception("an entry of %s is no news of models", NEWS_STREAM)


def _store_unload(news_id: str, news: dict[str, Any]) -> None:
    event, is_new = ModelEvent.objects.get_or_create(
        news_id=news_id,
        defaults={
            "at": datetime.fromtimestamp(news["at"], UTC),
            "who": "gateway" if news["who"] == "automatic" else "engine",
            "by_itself": True,
            "engine_kind": news["engine"],
            "model": news["model"][:200],
            "action": ModelAction.UNLOAD,
            "detail": news["reason"][:300],
            "state": ActionState.FAILED if news["problem"] else ActionState.DONE,
            "result": news["problem"][:500],
        },
    )
    # What the engine did by itself the collector has told the lane already.
    if is_new and news["who"] == "automatic":
        _told(event)
    elif is_new:
        events.tell("models", event.pk)


def delete_old_events(*, now: datetime) -> None:
    ModelEvent.objects.filter(at__lt=now - KEEP_EVENTS).delete()
