"""Questions about requests that more than one part of the app asks."""

from inference.models import InferenceRequest
from inference.truncation import Density, density, teaches

TAUGHT_BY = 500  # newest requests of a model


def token_density(model: str) -> Density | None:
    """How many bytes of prompt make a token of the model, by its requests that were certainly not cut."""
    rows = InferenceRequest.objects.filter(model=model).values_list(
        "prompt_bytes", "prompt_tokens", "num_ctx", "truncated", "cache"
    )
    return density(
        [
            (sent, tokens)
            for sent, tokens, num_ctx, truncated, cache in rows[:TAUGHT_BY]
            if sent and tokens and cache != "hit" and truncated in {"", "no"} and teaches(sent, num_ctx)
        ]
    )
