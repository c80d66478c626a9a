"""What a request to a cloud cost, by the prices of the package genai-prices: they come with it, nothing is asked of anyone."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import F

from inference.engines.selectors import month_of
from inference.models import CloudMonth, Engine, EngineKind, InferenceRequest

# As genai-prices names them. Its own list is only read where something is reckoned: it takes 70 MB.
PROVIDERS = {
    "anthropic": "Anthropic",
    "avian": "Avian",
    "aws": "AWS Bedrock",
    "azure": "Azure",
    "cerebras": "Cerebras",
    "cohere": "Cohere",
    "deepseek": "DeepSeek",
    "fireworks": "Fireworks",
    "google": "Google",
    "groq": "Groq",
    "mistral": "Mistral",
    "moonshotai": "Moonshot",
    "novita": "Novita",
    "openai": "OpenAI",
    "openrouter": "OpenRouter",
    "perplexity": "Perplexity",
    "together": "Together",
    "x-ai": "xAI",
}


def cost_of(
    engine: Engine, model: str, *, prompt_tokens: int, output_tokens: int, cached_tokens: int, at: datetime
) -> Decimal | None:
    """In USD; None: nobody knows the price."""
    from genai_prices import Usage, calc_price

    usage = Usage(
        input_tokens=prompt_tokens,
        output_tokens=output_tokens,
        cache_read_tokens=min(cached_tokens, prompt_tokens) or None,
    )
    try:
        if engine.prices:
            price = calc_price(usage, model, provider_id=engine.prices, genai_request_timestamp=at)
        else:
            price = calc_price(usage, model, provider_api_url=engine.url, genai_request_timestamp=at)
    except (LookupError, ValueError):
        return None
    return Decimal(price.total_price).quantize(Decimal("1e-8"))


def price(records: Iterable[dict[str, Any]]) -> None:
    """Sets `cost_usd` of those that a cloud answered. What can't be told stays None."""
    asked = [each for each in records if each.get("route")]
    if not asked:
        return
    clouds = {each.name: each for each in Engine.objects.filter(kind=EngineKind.OPENAI)}
    for each in asked:
        cloud = clouds.get(str(each.get("engine_kind")))
        counts = [each.get("prompt_tokens"), each.get("output_tokens") if each.get("kind") != "embed" else 0]
        if cloud is not None and all(isinstance(n, int) for n in counts):
            cached = each.get("cached_tokens")
            each["cost_usd"] = cost_of(
                cloud,
                str(each["model"]),
                prompt_tokens=counts[0] or 0,
                output_tokens=counts[1] or 0,
                cached_tokens=cached if isinstance(cached, int) else 0,
                at=each["at"],
            )


@dataclass(frozen=True)
class Charge:
    """Requests that a cloud answered, and what they cost as far as anybody knows."""

    cloud: str
    at: datetime
    n_requests: int
    n_unpriced: int
    cost_usd: Decimal


def count(rows: Iterable[InferenceRequest]) -> None:
    """Add them to the months of their clouds; call it in the transaction that stores them, with none that is stored already."""
    clouds = set(Engine.objects.filter(kind=EngineKind.OPENAI).values_list("name", flat=True))
    for row in rows:
        if row.engine_kind in clouds and row.status == 200:
            cost = row.cost_usd or Decimal(0)
            charge(Charge(row.engine_kind, row.at, 1, int(row.cost_usd is None), cost))


def charge(what: Charge) -> None:
    """Add it to its cloud's month; call it in the transaction that stores what was paid for."""
    month, _ = CloudMonth.objects.get_or_create(engine=what.cloud, month=month_of(what.at))
    CloudMonth.objects.filter(pk=month.pk).update(
        n_requests=F("n_requests") + what.n_requests,
        n_unpriced=F("n_unpriced") + what.n_unpriced,
        cost_usd=F("cost_usd") + what.cost_usd,
    )


def budget_problem(cloud: Engine, now: datetime) -> str:
    """Why nothing more may go there this month; empty: it may."""
    month = CloudMonth.objects.filter(engine=cloud.name, month=month_of(now)).first()
    spent = Decimal(0) if month is None else month.cost_usd
    if cloud.budget_usd is None or spent < cloud.budget_usd:
        return ""
    return f"The budget of {cloud.name} for {month_of(now):%Y-%m} is used up ({spent:.2f} of {cloud.budget_usd:.2f} USD)."
