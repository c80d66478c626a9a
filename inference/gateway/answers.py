"""Answers of the gateway's own: errors in the shape of the API that was asked, and kept answers."""

import json
import time
from typing import Any

from inference.gateway.asgi import Send
from inference.gateway.cache import Entry
from inference.gateway.engines import CLOUD
from inference.gateway.meter import Meter


def own_headers(meter: Meter) -> list[tuple[bytes, bytes]]:
    headers = [
        (b"x-aicleaner-request-id", meter.request_id.encode()),
        (b"x-aicleaner-cache", meter.cache.encode()),
        (b"x-aicleaner-engine", meter.engine_name.encode() or b"none"),
        (b"x-aicleaner-route", meter.route.encode() or b"local"),
        (b"x-aicleaner-profile", (meter.profile or "none").encode()),
    ]
    if meter.distance is not None:
        headers.append((b"x-aicleaner-cache-distance", str(meter.distance).encode()))
    if meter.alias:
        headers.append((b"x-aicleaner-model", meter.model.encode()))
    if meter.ignored and meter.engine_kind == "ollama":
        headers.append((b"x-aicleaner-profile-ignored", meter.ignored.encode()))
    elif meter.ignored and meter.engine_kind == CLOUD:
        headers.append((b"x-aicleaner-ignored", meter.ignored.encode("latin-1", "replace")))
    return [*headers, *meter.extra_headers] if meter.extra_headers else headers


def for_page(meter: Meter) -> list[tuple[bytes, bytes]]:
    """Lets the page that asked read an answer that no local engine gave."""
    if not meter.origin or meter.is_foreign:
        return []
    return [(b"access-control-allow-origin", meter.origin), (b"vary", b"Origin")]


def openai_error(text: str) -> dict[str, Any]:
    return {"message": text, "type": "api_error", "param": None, "code": None}


async def send_error(send: Send, meter: Meter, status: int, text: str) -> None:
    error: Any = openai_error(text) if meter.path.startswith("/v1/") else text
    await respond(send, meter, status, json.dumps({"error": error}).encode(), "application/json")


async def broken_off(meter: Meter, send: Send) -> None:
    """The engine went away amid its answer: an error line where a line can be, else the connection ends short."""
    text = f"an error was encountered while running the model: {meter.error}"
    begun = not meter.tail.endswith(b"\n")
    if "ndjson" in meter.content_type:
        line = b"\n" * begun + json.dumps({"error": text}).encode() + b"\n"
    elif meter.is_events:
        line = b"\n\n" * begun + b"data: " + json.dumps({"error": openai_error(text)}).encode() + b"\n\n"
    else:
        return
    meter.complete = True
    await send({"type": "http.response.body", "body": line, "more_body": False})


async def respond(send: Send, meter: Meter, status: int, body: bytes, content_type: str) -> None:
    meter.status, meter.complete = status, True
    headers = [
        (b"content-type", content_type.encode()),
        (b"content-length", str(len(body)).encode()),
        *for_page(meter),
        *own_headers(meter),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def replay(entry: Entry, meter: Meter, send: Send) -> None:
    """A kept answer, in the pieces in which it came."""
    meter.cache, meter.status, meter.content_type = "hit", 200, entry.content_type
    meter.replayed, meter.saved_ms = entry.facts, entry.took_ms
    meter.first_byte = time.monotonic()
    meter.first_content = meter.first_byte if meter.stream else None
    chunks = entry.chunks()
    meter.response_bytes = sum(entry.lengths)
    headers = [
        (b"content-type", entry.content_type.encode()),
        (b"age", str(int(meter.first_byte - entry.stored_at)).encode()),
        *for_page(meter),
        *own_headers(meter),
    ]
    if not meter.stream:
        headers.append((b"content-length", str(meter.response_bytes).encode()))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for chunk in chunks[:-1]:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    meter.complete = True
    await send({"type": "http.response.body", "body": chunks[-1], "more_body": False})
