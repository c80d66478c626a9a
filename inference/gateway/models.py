"""The models of all engines: which engine has which, digest and size of the local ones by name."""

import asyncio
import logging
import time
from typing import Any

import aiohttp

from inference.gateway.engines import Engine, Engines, is_due
from inference.gateway.loads import Loads
from inference.gateway.profile import Gate
from inference.names import full_name

TAGS_EVERY_S, LOOK_EVERY_S = 10.0, 1.0
TIMEOUT_S = 3.0
# The embedded engine runs smaller models on one thread: more of them would only wait for each other.
ONE_THREAD_BYTES = 64 * 2**20
# After these a name may stand for another model.
CHANGES = frozenset({"/api/create", "/api/copy", "/api/delete", "/api/pull"})
log = logging.getLogger("inference.gateway")


class Models:
    """What each engine listed last. `engine_of` gives the first engine that answers and has a model."""

    def __init__(self, engines: Engines, loads: Loads, gate: Gate) -> None:
        self.engines, self.loads, self.gate = engines, loads, gate
        self._tags: dict[str, dict[str, tuple[str, int]]] = {}  # by engine: full name -> digest, bytes
        self._asked: dict[str, float] = {}  # by engine; empty after a change
        self._offered: dict[str, dict[str, str]] = {}  # by name of the cloud: full name -> as it has it
        self._route: dict[str, Engine] = {}
        self._homes: dict[str, Engine] = {}  # who had it last, also while that one is down
        self._n_changes = 0
        self._asking: set[asyncio.Task[None]] = set()
        self._failed: set[str] = set()
        engines.on_change = self._arrange

    def engine_of(self, name: str) -> Engine | None:
        """`name` in full; None: no engine that answers has listed it."""
        return self._route.get(name)

    def cloud_name(self, engine: Engine, name: str) -> str:
        """The name as the cloud lists it: a tag that was added is left out."""
        return self._offered.get(engine.name, {}).get(full_name(name)) or name

    def offered(self, engine: Engine) -> list[str]:
        return list(self._offered.get(engine.name, {}).values())

    def digest(self, engine_url: str, name: str) -> str | None:
        """None: the engine has not said so, or a request has changed its models since."""
        found = self._tags.get(engine_url, {}).get(full_name(name)) if engine_url in self._asked else None
        return (found[0] or None) if found else None

    def may_have(self, name: str) -> bool:
        """False when every local engine that answers has listed its models, and neither they nor a cloud have this one."""
        if full_name(name) in self._route:
            return True
        return not all(each.url in self._asked for each in self.engines.local if each.up)

    def was_at(self, name: str) -> Engine | None:
        """A local engine that does not answer now, and had the model."""
        down = (each for each in self.engines.local if not each.up)
        return next((each for each in down if name in self._tags.get(each.url, {})), None)

    def on_one_thread(self, engine: Engine, name: str) -> bool:
        if engine.kind != "embedded":
            return False
        found = self._tags.get(engine.url, {}).get(full_name(name))
        return found is not None and found[1] < ONE_THREAD_BYTES

    def forget(self) -> None:
        """Names may stand for other models now. Where they are is taken for true until the engines are asked again."""
        self._asked, self._n_changes = {}, self._n_changes + 1

    async def run(self) -> None:
        """Ask for the models every TAGS_EVERY_S, clouds less often."""
        while True:
            await self.look(time.monotonic())
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self, now: float) -> None:
        """Whatever an engine answers: it is asked again."""
        for cloud in self.engines.engines:
            if cloud.is_cloud and is_due(cloud, now):
                cloud.asked = now
                task = asyncio.create_task(self._ask_cloud(cloud))
                self._asking.add(task)
                task.add_done_callback(self._asking.discard)
        await asyncio.gather(*(self._guarded(each, now) for each in self.engines.local if each.up))

    async def _guarded(self, engine: Engine, now: float) -> None:
        try:
            await self._ask(engine, now)
            self._failed.discard(engine.url)
        except Exception:
            if engine.url not in self._failed:
                log.exception("asking %s for its models failed; it is tried again", engine.name)
            self._failed.add(engine.url)

    async def _ask(self, engine: Engine, now: float) -> None:
        session = self.engines.session_of(engine)
        before, changes = self._asked.get(engine.url), self._n_changes
        if before is None or now - before >= TAGS_EVERY_S:
            tags = (await ask(session, f"{engine.url}/api/tags")).get("models") or []
            # Older servers leave some of it out.
            found = {
                full_name(str(each["name"])): (str(each.get("digest") or ""), int(each.get("size") or 0))
                for each in tags
            }
            engine.n_models = len(found)
            if found != self._tags.get(engine.url):
                self._tags[engine.url] = found
                self._arrange()
            if self._n_changes == changes:
                self._asked[engine.url] = now  # else a change meanwhile asks again
        for each in (await ask(session, f"{engine.url}/api/ps")).get("models") or []:
            if size := int(each.get("context_length") or 0):  # older servers don't tell it
                model = full_name(each["name"])
                if self._route.get(model) is engine:
                    self.loads.see(model, size, idle=not self.gate.running[model])

    async def _ask_cloud(self, cloud: Engine) -> None:
        try:
            found = await self.engines.ask_cloud(cloud)
        except Exception:  # it must not end unseen
            log.exception("asking %s for its models failed; it is tried again", cloud.name)
            return
        if found.models is not None:
            cloud.n_models = len(found.models)
            self._offered[cloud.name] = {full_name(each): each for each in found.models}
        self._arrange()

    def _arrange(self) -> None:
        """Who answers for which model: the first engine that is up and has it."""
        urls = {each.url for each in self.engines.engines}
        self._tags = {url: tags for url, tags in self._tags.items() if url in urls}
        self._asked = {url: at for url, at in self._asked.items() if url in urls}
        route = dict[str, Engine]()
        for engine in reversed(self.engines.engines):
            if engine.up:
                names = self._offered.get(engine.name) if engine.is_cloud else self._tags.get(engine.url)
                route.update(dict.fromkeys(names or (), engine))
        # Another engine chooses for itself how to load.
        moved = {name for name, engine in route.items() if self._homes.get(name, engine) is not engine}
        self.loads.keep({name for tags in self._tags.values() for name in tags} - moved)
        self._route, self._homes = route, {**self._homes, **route}


async def ask(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    """An endpoint that the engine does not have, as older ones, answers nothing."""
    async with session.get(url, timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as answer:
        if answer.status == 404:
            return {}
        return dict(await answer.json(content_type=None))
