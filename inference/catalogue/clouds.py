"""Models of clouds: what each offers, as the gateway lists it, and what of it is used."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import httpx
from django.conf import settings

from inference.api_keys.internal import gateway_headers
from inference.catalogue.selectors import Use, use_of, used_names
from inference.engines.selectors import clouds
from inference.names import full_name

ASK_WITHIN_S = 4.0  # a page waits for it


@dataclass(frozen=True)
class CloudModels:
    """`used`: the busiest first; `others`: what it offers besides. A cloud tells nothing but names."""

    cloud: str
    used: list[tuple[str, Use]]
    others: list[str]

    @property
    def n(self) -> int:
        return len(self.used) + len(self.others)


def cloud_models(now: datetime, *, q: str = "") -> list[CloudModels]:
    """Of all clouds in use, those with `q` in their names. A name that a local engine has too is that engine's."""
    names = [each.name for each in clouds()]
    if not names:
        return []
    offered = _offered()
    found = []
    for cloud in names:
        known = {full_name(name): name for name in used_names(cloud, now)}
        known |= {full_name(name): name for name in offered.get(cloud, ())}
        use = use_of([(cloud, full) for full in known], now)
        wanted = [(name, use[cloud, full]) for full, name in known.items() if q.casefold() in name.casefold()]
        used = [each for each in wanted if each[1].n_requests]
        others = sorted(name for name, each in wanted if not each.n_requests)
        found.append(
            CloudModels(cloud, sorted(used, key=lambda each: (-each[1].n_requests, each[0])), others)
        )
    return found


def _offered() -> Mapping[str, list[str]]:
    """By cloud; nothing while the gateway is away."""
    found: dict[str, list[str]] = {}
    try:
        answer = httpx.get(
            f"{settings.GATEWAY_URL}/v1/models",
            headers=gateway_headers(),
            timeout=ASK_WITHIN_S,
            trust_env=False,
        )
        for each in answer.json().get("data") or ():
            found.setdefault(str(each["owned_by"]), []).append(str(each["id"]))
    except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return found
