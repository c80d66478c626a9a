"""The use of models, added up as requests are stored."""

from collections.abc import Iterable
from datetime import datetime

from inference.models import InferenceRequest, ModelUse

NO_USE = ("load", "unload")  # reasons of requests that ask nothing
Slot = tuple[datetime, str, str, str]


def count_use(requests: Iterable[InferenceRequest]) -> None:
    """Call it in the transaction that stores them, with none that is stored already."""
    asked = [each for each in requests if each.done_reason not in NO_USE]
    if not asked:
        return
    hours = {each.at.replace(minute=0, second=0, microsecond=0) for each in asked}
    rows = ModelUse.objects.select_for_update().filter(
        hour__in=hours, model__in={each.model for each in asked}
    )
    known = {(each.hour, each.engine_kind, each.model, each.client): each for each in rows}
    new: dict[Slot, ModelUse] = {}
    for each in asked:
        hour = each.at.replace(minute=0, second=0, microsecond=0)
        slot = hour, each.engine_kind, each.model, each.client
        use = known.get(slot) or new.get(slot)
        if use is None:
            use = new[slot] = ModelUse(
                hour=hour,
                engine_kind=each.engine_kind,
                model=each.model,
                client=each.client,
                last_at=each.at,
            )
        _add(use, each)
    changed = ("n_requests", "n_failed", "prompt_tokens", "output_tokens", "last_at")
    ModelUse.objects.bulk_update(known.values(), changed)
    ModelUse.objects.bulk_create(new.values())


def _add(use: ModelUse, request: InferenceRequest) -> None:
    use.n_requests += 1
    use.n_failed += request.failed
    use.last_at = max(use.last_at, request.at)
    if request.prompt_tokens is not None:
        use.prompt_tokens = (use.prompt_tokens or 0) + request.prompt_tokens
    if request.output_tokens is not None:
        use.output_tokens = (use.output_tokens or 0) + request.output_tokens
