"""One question to an engine: does it answer, as what, with which models, how fast; and if not, why. The gateway asks it again
and again, the console's Test button once."""

import asyncio
import json
import re
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Any

import aiohttp

from inference.gateway.sessions import RefusedAddressError

TIMEOUT_S, CLOUD_TIMEOUT_S = 1.5, 10.0
NAME = re.compile(r"[\x21-\x7e]{1,200}")  # they come back in headers
MOST_BYTES = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Probe:
    """`problem`: a sentence without the key; empty: it answers. `models`: None where they were not asked for."""

    problem: str = ""
    version: str = ""
    latency_ms: float | None = None
    models: list[str] | None = None


async def probe(
    session: aiohttp.ClientSession,
    kind: str,
    url: str,
    key: str = "",
    *,
    headers: dict[str, str] | None = None,
    timeout_s: float = 0.0,
) -> Probe:
    """An Ollama tells its version, a cloud its models."""
    started = time.monotonic()
    cloud = kind == "openai"
    path = "/models" if cloud else "/api/version"
    try:
        answer, status = await _get(session, url + path, key, headers, timeout_s, cloud=cloud)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return Probe(reason_of(error, timeout_s or (CLOUD_TIMEOUT_S if cloud else TIMEOUT_S)))
    latency_ms = (time.monotonic() - started) * 1000
    if cloud:
        return _cloud(answer, status, latency_ms, url, has_key=bool(key))
    version = answer.get("version") if isinstance(answer, dict) else None
    if status != 200 or not isinstance(version, str) or not version:
        return Probe(f"What answers there is no Ollama: {path} gave HTTP {status}{_words(answer)}.")
    return Probe(version=version, latency_ms=latency_ms)


async def list_models(session: aiohttp.ClientSession, url: str, timeout_s: float) -> list[str]:
    """Of an Ollama. Raises aiohttp.ClientError, OSError or ValueError."""
    answer, status = await _get(session, f"{url}/api/tags", "", None, timeout_s, cloud=False)
    found = answer.get("models") if isinstance(answer, dict) else None
    if status != 200 or not isinstance(found, list | None):
        raise ValueError(f"/api/tags gave HTTP {status}")
    return [str(each["name"]) for each in found or () if isinstance(each, dict) and each.get("name")]


async def _get(
    session: aiohttp.ClientSession,
    url: str,
    key: str,
    headers: dict[str, str] | None,
    timeout_s: float,
    *,
    cloud: bool,
) -> tuple[Any, int]:
    sent = {"Accept": "application/json", **(headers or {})}
    if key:
        sent["Authorization"] = f"Bearer {key}"
    limit = aiohttp.ClientTimeout(total=timeout_s or (CLOUD_TIMEOUT_S if cloud else TIMEOUT_S))
    async with session.get(url, headers=sent, timeout=limit, allow_redirects=False) as answer:
        body = await answer.content.read(MOST_BYTES)
        while len(body) < MOST_BYTES and (part := await answer.content.read(MOST_BYTES - len(body))):
            body += part
        try:
            return json.loads(body), answer.status
        except (ValueError, RecursionError):
            return None, answer.status


def _cloud(answer: Any, status: int, latency_ms: float, url: str, *, has_key: bool) -> Probe:
    if status in {401, 403}:
        which = "The API key is refused" if has_key else "An API key is wanted"
        return Probe(f"{which}: {url}/models gave HTTP {status}{_words(answer)}.")
    found = answer.get("data") if isinstance(answer, dict) else None
    if status != 200 or not isinstance(found, list | None) or not isinstance(answer, dict):
        return Probe(
            f"What answers there is no OpenAI-compatible server: {url}/models gave HTTP {status}{_words(answer)}. "
            "The address usually ends in /v1."
        )
    if "data" not in answer:
        return Probe(f"What answers there is no OpenAI-compatible server: {url}/models lists no data.")
    # Gemini names its models with the path before them, and takes them without.
    ids = [
        str(each["id"]).removeprefix("models/")
        for each in found or ()
        if isinstance(each, dict) and each.get("id")
    ]
    names = [each for each in ids if NAME.fullmatch(each)]
    return Probe(latency_ms=latency_ms, models=names)


def _words(answer: Any) -> str:
    """The server's own, where it is JSON with an error. Servers quote a key that they refuse: it is left out."""
    error = answer.get("error") if isinstance(answer, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    return f" ({code})" if isinstance(code, str) and len(code) < 60 else ""


def reason_of(error: Exception, timeout_s: float) -> str:
    """A sentence for what aiohttp raises."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        if isinstance(error.os_error, RefusedAddressError):
            return str(error.os_error)
        return f"The name {error.host} can't be resolved: {error.os_error}."
    if isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError):
        found = getattr(error, "certificate_error", error)
        return f"TLS: the certificate is not accepted: {getattr(found, 'verify_message', '') or found}."
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return "TLS: no encrypted connection comes about. Does the server speak plain http?"
    if isinstance(error, aiohttp.ClientConnectorError):
        if isinstance(error.os_error, ConnectionRefusedError):
            return f"Connection refused: nobody listens at {error.host}:{error.port}."
        return f"No connection to {error.host}:{error.port}: {error.os_error or error}."
    if isinstance(error, asyncio.TimeoutError | TimeoutError):
        return f"No answer within {timeout_s:g} s."
    if isinstance(error, aiohttp.ServerDisconnectedError | ConnectionResetError):
        return "The connection was closed without an answer. Does the server want https?"
    if isinstance(error, socket.gaierror):
        return f"The name can't be resolved: {error}."
    return f"No sensible answer: {str(error) or type(error).__name__}."
