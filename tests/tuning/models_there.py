"""Models that an engine lists, and variants that were measured of them, for tests of what is done with them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from django.conf import settings as django_settings

from aicleaner_site.config import PerformanceOptimization
from inference.gateway.kept import STATE_KEY
from inference.gateway.pushed import ALIASES
from inference.models import Variant
from tests.inference.stand_in import StandIn, stand_in
from tuning.optimization import PRESSURE_KEY

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
GIB = 2**30


@pytest.fixture
def ollama(settings: Any, valkey_url: str) -> Iterator[StandIn]:
    """The only engine: it lists what a test gives it. No gateway runs, and nothing was seen before."""
    with stand_in() as server, redis.from_url(valkey_url) as valkey:
        settings.ENGINES = [{"kind": "ollama", "url": server.url}]
        valkey.delete(STATE_KEY, PRESSURE_KEY, ALIASES.key)
        yield server
        valkey.delete(STATE_KEY, PRESSURE_KEY, ALIASES.key)


def tag(
    name: str, size: int = GIB, quantization: str = "F16", days: float = 0, digest: str = ""
) -> dict[str, Any]:
    """As `/api/tags` lists it, changed so many days before NOW."""
    return {
        "name": name,
        "digest": digest or f"digest of {name}",
        "size": size,
        "details": {"quantization_level": quantization},
        "modified_at": (NOW - timedelta(days=days)).isoformat(),
    }


def measured(source: str, name: str, quantization: str = "Q4_K_M", loss: float | None = 0.01) -> Variant:
    return Variant.objects.create(
        engine_kind="ollama",
        name=name,
        digest=f"digest of {name}",
        quantization=quantization,
        size_bytes=GIB // 3,
        source=source,
        source_digest=f"digest of {source}",
        source_size_bytes=GIB,
        maker="engine",
        made_at=NOW,
        measures={} if loss is None else {"quality": {"kl": {"value": loss}}},
    )


def configure(settings: Any, **sections: dict[str, Any]) -> None:
    """Sections of config.yaml, the rest as it is."""
    tree = django_settings.CONFIG.model_dump()
    for name, values in sections.items():
        tree[name] |= values
    settings.CONFIG = PerformanceOptimization.model_validate(tree)
