"""Which engine a request goes to, and why: the first that answers and has the model; a cloud where an alias says so."""

import json
import time
from dataclasses import dataclass
from typing import Any

from inference.gateway.aliases import Fallback
from inference.gateway.engines import Engine, Engines
from inference.gateway.models import Models
from inference.names import full_name

LEVELS = {"": 9, "none": 0, "some": 1, "high": 2}
# Not inference, and about one model: where the request names it.
OF_ONE_MODEL = {"/api/show": ("model", "name"), "/api/delete": ("model", "name"), "/api/copy": ("source",)}
ENGINE_DOWN = "fallback: engine down"
AS_ASKED = "local: as asked"


class UnknownEngineError(Exception):
    pass


@dataclass(slots=True)
class Pressure:
    """As the gateway's memory keeper reads it each second: the worse of memory and GPU memory."""

    level: str = "none"


class Routing:
    def __init__(self, engines: Engines, models: Models, pressure: Pressure) -> None:
        self.engines, self.models, self.pressure = engines, models, pressure

    def why_cloud(self, fallback: Fallback, model: str, engine: Engine | None, n_waiting: int) -> str:
        """A reason to ask the cloud before the local engine; empty: there is none. `engine`: the one that has the model."""
        if engine is None:
            if not self.engines.current.up or self.models.was_at(model) is not None:
                return ENGINE_DOWN
            if not self.models.may_have(model):
                return "fallback: no engine that answers has the model"
        elif not engine.up:
            return ENGINE_DOWN
        if fallback.on_queue is not None and n_waiting > fallback.on_queue:
            return f"fallback: {n_waiting} {'request waits' if n_waiting == 1 else 'requests wait'}"
        if LEVELS[self.pressure.level] >= LEVELS[fallback.on_pressure]:
            return f"fallback: memory pressure {self.pressure.level}"
        return ""

    def cloud_of(self, fallback: Fallback) -> tuple[Engine | None, str]:
        """The cloud, or why it is not asked."""
        cloud = self.engines.named(fallback.cloud)
        if cloud is None:
            return None, f"{fallback.cloud} is not in use"
        if problem := budget_problem(cloud):
            return None, problem
        return cloud, ""

    def asked_for(self, name: str) -> Engine | None:
        """The engine that a request names by its header; None: it names none. Raises UnknownEngineError."""
        if not name:
            return None
        found = self.engines.named(name)
        if found is None:
            known = ", ".join(each.name for each in self.engines.engines)
            raise UnknownEngineError(
                f"x-aicleaner-engine: there is no engine {name[:100]!r} in use; there is {known}"
            )
        return found

    def of_one_model(self, path: str, body: bytes) -> Engine | None:
        """For a request that is no inference; None: it goes to the engine in use."""
        if path.startswith("/v1/models/"):
            return self._local(path.removeprefix("/v1/models/"))
        names = OF_ONE_MODEL.get(path)
        if names is None:
            return None
        try:
            values: Any = json.loads(body)
            return self._local(str(next(values[name] for name in names if values.get(name))))
        except (ValueError, AttributeError, TypeError, StopIteration, RecursionError):
            return None

    def _local(self, name: str) -> Engine | None:
        found = self.models.engine_of(full_name(name))
        return None if found is None or found.is_cloud else found


def budget_problem(cloud: Engine) -> str:
    if cloud.budget_is_used_up(time.time()):
        return f"the budget of {cloud.name} for {cloud.month} is used up ({cloud.spent_usd:.2f} of {cloud.budget_usd:.2f} USD)"
    return ""
