"""What the cache holds and has saved, model by model. Counts are of this gateway since it started."""

import time
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import Any

MAX_MODELS = 100  # that are remembered; of those beyond only what they have kept is known
SHOWN_MODELS = 50


@dataclass(slots=True)
class OfModel:
    """`kept`: when each kept answer came (monotonic), the oldest first."""

    kept: "OrderedDict[bytes, float]" = field(default_factory=OrderedDict)
    n_bytes: int = 0
    n_hits: int = 0
    n_near: int = 0  # of the hits
    n_misses: int = 0
    saved_s: float = 0.0
    saved_prompt_tokens: int = 0
    saved_output_tokens: int = 0

    def as_json(self, now: float) -> dict[str, Any]:
        oldest = next(iter(self.kept.values()), None)
        return {
            "entries": len(self.kept),
            "bytes": self.n_bytes,
            "hits": self.n_hits,
            "near_hits": self.n_near,
            "misses": self.n_misses,
            "saved_s": self.saved_s,
            "saved_prompt_tokens": self.saved_prompt_tokens,
            "saved_output_tokens": self.saved_output_tokens,
            "oldest_s": None if oldest is None else now - oldest,
        }


class CacheStats:
    def __init__(self) -> None:
        self.by_model: dict[str, OfModel] = {}
        self.near_by_zone: Counter[str] = Counter()
        self.started_at = time.time()

    def of(self, model: str) -> OfModel:
        found = self.by_model.get(model)
        if found is None:
            if len(self.by_model) >= MAX_MODELS:
                idle = next((name for name, each in self.by_model.items() if not each.kept), None)
                if idle is not None:
                    del self.by_model[idle]
            found = self.by_model[model] = OfModel()
        return found

    def finished(self, model: str, zone: str, record: dict[str, Any], saved_ms: float) -> None:
        """A request that was a hit or a miss; `saved_ms`: what the answer took when it was generated."""
        if record["cache"] == "miss":
            self.of(model).n_misses += 1
        elif record["cache"] == "hit":
            found = self.of(model)
            found.n_hits += 1
            found.saved_s += max(saved_ms - record["total_ms"], 0) / 1000
            found.saved_prompt_tokens += record["prompt_tokens"] or 0
            found.saved_output_tokens += record["output_tokens"] or 0
            if record["cache_distance"] is not None:
                found.n_near += 1
                self.near_by_zone[zone] += 1

    def as_json(self, now: float) -> dict[str, Any]:
        """The busiest models, and what all others have together."""
        busiest = sorted(self.by_model.items(), key=lambda item: -(len(item[1].kept) + item[1].n_hits))
        return {
            "started_at": self.started_at,
            "models": {name: each.as_json(now) for name, each in busiest[:SHOWN_MODELS]},
            "models_not_shown": max(len(busiest) - SHOWN_MODELS, 0),
            "near_by_zone": dict(self.near_by_zone),
        }
