"""Lists of what all engines have, where more than one answers: with a single one its own answer passes as it came.

Of two models of one name the one that would answer is listed. Clouds' models stand in OpenAI's list only: Ollama's has
digests, sizes and dates, which a cloud doesn't tell."""

import asyncio
import json
import time
from typing import Any

import aiohttp

from inference.gateway.engines import Engine, Engines
from inference.gateway.models import Models
from inference.names import full_name

PATHS = frozenset({"/api/tags", "/api/ps", "/v1/models"})
TIMEOUT = aiohttp.ClientTimeout(total=5)


class Union:
    def __init__(self, engines: Engines, models: Models) -> None:
        self.engines, self.models = engines, models

    def wants(self, method: str, path: str) -> bool:
        if method != "GET" or path not in PATHS:
            return False
        n_up = sum(each.up for each in self.engines.engines if not each.is_cloud or path == "/v1/models")
        return n_up > 1 or (n_up == 1 and not self.engines.current.up)

    async def answer(self, path: str) -> bytes:
        local = [each for each in self.engines.local if each.up]
        answers = await asyncio.gather(*(self._list(each, path) for each in local))
        key, name = ("data", "id") if path == "/v1/models" else ("models", "name")
        found: dict[str, Any] = {}
        for answer in answers:
            for each in answer.get(key) or ():
                which = full_name(str(each[name]))
                # What is loaded twice is there twice.
                found.setdefault(which if path != "/api/ps" else f"{len(found)}", each)
        if path != "/v1/models":
            return json.dumps({key: list(found.values())}).encode()
        for cloud in (each for each in self.engines.engines if each.is_cloud and each.up):
            for model in self.models.offered(cloud):
                told = {"id": model, "object": "model", "created": int(time.time()), "owned_by": cloud.name}
                found.setdefault(full_name(model), told)
        return json.dumps({"object": "list", key: list(found.values())}).encode()

    async def _list(self, engine: Engine, path: str) -> dict[str, Any]:
        """Nothing of one that goes away meanwhile, or is too old for the question."""
        try:
            async with self.engines.session_of(engine).get(engine.url + path, timeout=TIMEOUT) as answer:
                found = await answer.json(content_type=None) if answer.status == 200 else {}
        except (aiohttp.ClientError, OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}
