"""What the console tells the cache to do. Nothing is kept of an order: who gave it hears at once whether it was done."""

import json
from typing import Any

from inference.gateway.cache import Cache
from inference.gateway.pushed import CACHE_ORDERS, Pushed


class CacheOrders(Pushed):
    def __init__(self, valkey_url: str, cache: Cache) -> None:
        super().__init__(valkey_url, CACHE_ORDERS)
        self._cache = cache

    def take(self, state: dict[str, Any]) -> str:
        """`{"clear": "llava:latest"}`, or all by an empty name. The word says what went."""
        model = state["clear"]
        if not isinstance(model, str):
            raise TypeError("clear has to name a model")
        n_entries, n_bytes = self._cache.clear(model)
        return json.dumps({"entries": n_entries, "bytes": n_bytes})
