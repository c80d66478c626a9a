"""Questions about the models of all engines."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Max, QuerySet, Sum

from inference.catalogue.engine import EngineApi
from inference.catalogue.memory import MemoryState, Standing
from inference.engines.selectors import EngineAddress, addresses
from inference.errors import EngineProblemError
from inference.instants import is_for_ever, read_instant
from inference.models import ModelEvent, ModelPull, ModelUse
from inference.models.job import JobState
from inference.names import full_name

USE_DAYS, MOST_CLIENTS = 7, 10
_SUMS = {
    "last": Max("last_at"),
    "read": Sum("prompt_tokens"),
    "written": Sum("output_tokens"),
}
Key = tuple[str, str]  # name of the engine, full name of the model


@dataclass(frozen=True)
class Use:
    """Through the gateway; tokens None where no answer told them."""

    last_at: datetime | None = None
    n_requests: int = 0
    tokens: int | None = None
    n_clients: int = 0


@dataclass(frozen=True)
class LoadedState:
    """None: the engine does not say."""

    memory_bytes: int
    vram_bytes: int
    context_length: int | None
    expires_at: datetime | None
    for_ever: bool
    standing: Standing | None

    @property
    def size_bytes(self) -> int:
        return self.memory_bytes + self.vram_bytes

    @property
    def vram_share(self) -> float | None:
        return self.vram_bytes / self.size_bytes if self.size_bytes else None


@dataclass(frozen=True)
class Entry:
    """A model as its engine lists it; empty or None where it does not say."""

    engine: EngineAddress
    name: str
    digest: str
    size_bytes: int | None
    family: str
    parameters: str
    quantization: str
    capabilities: tuple[str, ...]
    context_length: int | None
    modified_at: datetime | None
    loaded: LoadedState | None
    use: Use
    loading_since: datetime | None = None

    @property
    def key(self) -> Key:
        return self.engine.name, self.name


@dataclass(frozen=True)
class EngineState:
    engine: EngineAddress
    version: str = ""
    problem: str = ""
    tags: list[dict[str, Any]] = field(default_factory=list)
    loaded: list[dict[str, Any]] = field(default_factory=list)


def engine_states() -> list[EngineState]:
    """All engines, asked at the same time: one that hangs costs the page its time only once."""
    engines = addresses()
    with ThreadPoolExecutor(max_workers=max(len(engines), 1)) as pool:
        return list(pool.map(engine_state, engines))


def engine_state(engine: EngineAddress) -> EngineState:
    try:
        with EngineApi(engine) as api:
            return EngineState(engine, api.version(), "", api.tags(), api.loaded())
    except EngineProblemError as error:
        return EngineState(engine, problem=str(error))


def entries(states: Iterable[EngineState], memory: MemoryState, now: datetime) -> list[Entry]:
    found = [(state, each) for state in states for each in state.tags]
    use = use_of([(state.engine.name, full_name(str(each["name"]))) for state, each in found], now)
    loading = {
        (each.engine_kind, each.model): each.at
        for each in ModelEvent.objects.filter(action="load", state="running")
    }
    result = []
    for state, each in found:
        loaded = next((one for one in state.loaded if one.get("name") == each["name"]), None)
        key = state.engine.name, full_name(str(each["name"]))
        result.append(_entry(state.engine, each, loaded, memory, use[key], loading.get(key), now))
    return result


def _entry(
    engine: EngineAddress,
    tag: dict[str, Any],
    loaded: dict[str, Any] | None,
    memory: MemoryState,
    use: Use,
    loading_since: datetime | None,
    now: datetime,
) -> Entry:
    details, name = tag.get("details") or {}, full_name(str(tag["name"]))
    return Entry(
        engine=engine,
        name=name,
        digest=str(tag.get("digest") or ""),
        size_bytes=_whole(tag.get("size")),
        family=str(details.get("family") or ""),
        parameters=str(details.get("parameter_size") or ""),
        quantization=_told(details.get("quantization_level")),
        capabilities=tuple(map(str, tag.get("capabilities") or ())),
        context_length=_whole(details.get("context_length")),
        modified_at=read_instant(tag.get("modified_at")),
        loaded=loaded_state(loaded, memory.models.get((engine.name, name)), now),
        use=use,
        loading_since=loading_since,
    )


def loaded_state(
    loaded: dict[str, Any] | None, standing: Standing | None, now: datetime
) -> LoadedState | None:
    if loaded is None:
        return None
    size, vram = _whole(loaded.get("size")) or 0, _whole(loaded.get("size_vram")) or 0
    expires_at = read_instant(loaded.get("expires_at"))
    return LoadedState(
        max(size - vram, 0),
        vram,
        _whole(loaded.get("context_length")),
        expires_at,
        expires_at is not None and is_for_ever(expires_at, now),
        standing,
    )


def use_of(keys: Iterable[Key], now: datetime) -> dict[Key, Use]:
    """Of each model, in two questions."""
    since = _since(now)
    found: dict[Key, Use] = dict.fromkeys(keys, Use())
    recent = ModelUse.objects.filter(hour__gte=since).values("engine_kind", "model")
    for row in recent.annotate(n=Sum("n_requests"), clients=Count("client", distinct=True), **_SUMS):
        key = row["engine_kind"], full_name(row["model"])
        if key in found:
            found[key] = _with(found[key], row)
    unused = [key for key, use in found.items() if use.last_at is None]
    if unused:
        names = {name for _, name in unused} | {name.removesuffix(":latest") for _, name in unused}
        older = ModelUse.objects.filter(hour__lt=since, model__in=names).values("engine_kind", "model")
        for old in older.annotate(last=Max("last_at")):
            key = old["engine_kind"], full_name(old["model"])
            if key in found and found[key].n_requests == 0:
                found[key] = Use(max(filter(None, (found[key].last_at, old["last"]))))
    return found


def used_names(engine: str, now: datetime) -> set[str]:
    """Models of an engine that were used within USE_DAYS, as the requests name them."""
    rows = ModelUse.objects.filter(hour__gte=_since(now), engine_kind=engine)
    return set(rows.values_list("model", flat=True))


def clients_of(key: Key, now: datetime) -> list[dict[str, Any]]:
    """Who used the model within USE_DAYS, the busiest first: client, n, read, written, n_failed, last."""
    kind, name = key
    rows = ModelUse.objects.filter(
        model__in=(name, name.removesuffix(":latest")), engine_kind=kind, hour__gte=_since(now)
    )
    counted = rows.values("client").annotate(n=Sum("n_requests"), n_failed=Sum("n_failed"), **_SUMS)
    return [dict(row) for row in counted.order_by("-n", "client")[:MOST_CLIENTS]]


def _since(now: datetime) -> datetime:
    """USE_DAYS ago, in whole hours."""
    return (now - timedelta(days=USE_DAYS)).replace(minute=0, second=0, microsecond=0)


def _with(use: Use, row: Mapping[str, Any]) -> Use:
    """Clients name a model with and without its tag; of two such rows the clients may be the same ones."""
    told = [each for each in (use.tokens, row["read"], row["written"]) if each is not None]
    return Use(
        max(filter(None, (use.last_at, row["last"]))),
        use.n_requests + row["n"],
        sum(told) if told else None,
        max(use.n_clients, row["clients"]),
    )


def events(*, model: str = "", state: str = "", kind: str = "") -> QuerySet[ModelEvent]:
    """Newest first; `model` is a part of the name, `kind` the action."""
    found = ModelEvent.objects.all()
    if model:
        found = found.filter(model__icontains=model)
    if state:
        found = found.filter(state=state)
    if kind:
        found = found.filter(action=kind)
    return found


def events_of(key: Key) -> QuerySet[ModelEvent]:
    return ModelEvent.objects.filter(engine_kind=key[0], model=key[1])


def pulls_to_show(now: datetime) -> QuerySet[ModelPull]:
    """Those that go on, and those that ended badly within the last hour."""
    open_ones = ModelPull.objects.filter(state__in=(JobState.QUEUED, JobState.RUNNING))
    recent = ModelPull.objects.filter(ended_at__gte=now - timedelta(hours=1)).exclude(state=JobState.DONE)
    return open_ones | recent


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _told(value: Any) -> str:
    return "" if value in (None, "unknown") else str(value)
