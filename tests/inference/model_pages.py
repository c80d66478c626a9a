"""Short ways to ask the pages of models and their engine."""

from datetime import datetime
from typing import Any

from django.db import transaction
from django.test import Client

from inference.catalogue.counting import count_use
from inference.catalogue.engine import EngineApi
from inference.engines.selectors import EngineAddress
from inference.models import InferenceRequest, ModelEvent

A, B, EMBED = "tiny-script:latest", "tiny-think:latest", "tiny-embed:latest"


def text_of(answer: Any) -> str:
    return " ".join(answer.content.decode().split())


def names(engine: EngineAddress) -> set[str]:
    with EngineApi(engine) as api:
        return {each["name"] for each in api.tags()}


def loaded(engine: EngineAddress, name: str) -> Any:
    with EngineApi(engine) as api:
        return api.find_loaded(name)


def act(client: Client, action: str, model: str = A, **fields: str) -> Any:
    return client.post(
        f"/models/{action}/",
        {"engine": "embedded", "model": model, "next": "/models/", **fields},
        follow=True,
    )


def said(answer: Any) -> str:
    return " ".join(map(str, answer.context["messages"]))


def log() -> list[tuple[str, str, str, str, str]]:
    rows = ModelEvent.objects.order_by("id").values_list("who", "action", "model", "state", "detail")
    return list(rows)


def request_of(model: str, at: datetime, **more: Any) -> None:
    values: dict[str, Any] = {
        "request_id": f"{InferenceRequest.objects.count()}",
        "path": "/api/chat",
        "api": "ollama",
        "kind": "chat",
        "stream": False,
        "status": 200,
        "total_ms": 1,
        "request_bytes": 1,
        "response_bytes": 1,
        "cache": "bypass",
        "engine_kind": "embedded",
        "prompt_tokens": 10,
        "output_tokens": 5,
        "client": "ollama-python",
    }
    row = InferenceRequest(**{**values, "model": model, "at": at, **more})
    row.failed = bool(row.error)
    with transaction.atomic():
        row.save()
        count_use([row])
