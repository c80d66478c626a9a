"""Requests as the worker stores them, for tests of the request log."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from inference.models import InferenceRequest

T0 = datetime(2026, 11, 20, 12, tzinfo=UTC)


def make_request(**values: Any) -> InferenceRequest:
    """One that went well, unsaved. `ago`: seconds before T0."""
    at = values.pop("at", None) or T0 - timedelta(seconds=values.pop("ago", 0))
    return InferenceRequest(
        **{
            "request_id": uuid.uuid4().hex,
            "at": at,
            "path": "/api/chat",
            "api": "ollama",
            "kind": "chat",
            "model": "llama",
            "client": "home",
            "client_ip": "192.168.1.2",
            "stream": True,
            "status": 200,
            "ttft_ms": 100.0,
            "total_ms": 500.0,
            "load_ms": 1.0,
            "prompt_eval_ms": 90.0,
            "eval_ms": 400.0,
            "queue_ms": 2.0,
            "prompt_tokens": 100,
            "output_tokens": 20,
            "engine": "http://127.0.0.1:11434",
            "engine_kind": "ollama",
            "request_bytes": 500,
            "response_bytes": 2000,
            "cache": "bypass",
            "prompt_bytes": 400,
            "num_ctx": 4096,
            "load_options": {"num_ctx": 4096},
            **values,
        }
    )


def store(*requests: InferenceRequest) -> list[InferenceRequest]:
    return InferenceRequest.objects.bulk_create(requests, batch_size=2000)


def store_many(n: int, **values: Any) -> list[InferenceRequest]:
    """A second apart, the newest first."""
    return store(*(make_request(ago=place, **values) for place in range(n)))


def a_record(number: int, **values: Any) -> dict[str, Any]:
    """As the gateway hands it over."""
    row = make_request(request_id=f"{number:032x}", at=datetime.now(UTC), **values)
    given = {field.name: getattr(row, field.name) for field in InferenceRequest._meta.concrete_fields}
    kept = {
        name: value for name, value in given.items() if name not in {"id", "failed", "reloaded", "truncated"}
    }
    return {
        **kept,
        "at": row.at.timestamp(),
        "error": row.error,
        "alias": row.alias,
        "done_reason": row.done_reason,
    }
