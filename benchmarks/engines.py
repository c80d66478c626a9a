"""The engines that a run can measure, and what they say about themselves."""

import http.client
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.utils import timezone

from benchmarks.addresses import check_address, read_key
from benchmarks.errors import EngineError, UnknownModelError
from benchmarks.parameters import Parameters
from inference.api_keys.internal import gateway_key
from inference.engines.costs import budget_problem
from inference.engines.selectors import address, addresses, clouds, key_of
from inference.gateway.memory import is_here
from safeguards.sealing import SealError

TIMEOUT_S = 5.0
MAX_ANSWER = 8 * 2**20

LABELS = {
    "gateway": "The engine in use, through the gateway",
    "ollama": "Ollama directly",
    "embedded": "The embedded engine directly",
    "cloud": "An OpenAI-compatible server",
}


def choices() -> dict[str, str]:
    """What a run can measure: names and words. Clouds that people added are measured with their stored key."""
    local = {each.name: label_of(each.name) for each in addresses()}
    added = {each.name: f"{each.name}, a cloud" for each in clouds()}
    return {"gateway": LABELS["gateway"], **local, **added, "cloud": LABELS["cloud"]}


def label_of(name: str) -> str:
    """Also of an engine that is gone."""
    return LABELS.get(name, f"{name} directly")


def for_staff() -> list[str]:
    """Where somebody pays for the requests, or that may be any address."""
    return ["cloud", *(each.name for each in clouds())]


def is_elsewhere(name: str) -> bool:
    """Whether this machine's power says nothing of it. The gateway's engine counts as here."""
    local = address(name)
    return name != "gateway" and (local is None or not is_here(local.url))


@dataclass(frozen=True)
class Engine:
    name: str
    api: str  # "ollama" or "openai"
    url: str
    key: str = field(default="", repr=False)


@dataclass(frozen=True)
class EngineModel:
    """What the engine tells of a model; empty or None where it does not."""

    name: str
    digest: str = ""
    size_bytes: int | None = None
    parameter_size: str = ""
    quantization: str = ""
    family: str = ""


def find_engine(name: str, url: str = "", key_variable: str = "") -> Engine:
    """Raises AddressError, KeyVariableError or EngineError, this also for a cloud whose budget is used up."""
    if name == "cloud":
        base = check_address(url).removesuffix("/v1")
        return Engine(name, "openai", base, read_key(key_variable) if key_variable else "")
    if name == "gateway":
        return Engine(name, "ollama", settings.GATEWAY_URL, gateway_key())
    if (local := address(name)) is not None:
        return Engine(name, "ollama", local.url)
    cloud = next((each for each in clouds() if each.name == name), None)
    if cloud is None:
        raise EngineError(f"There is no engine {name}: it may have been removed.")
    if problem := budget_problem(cloud, timezone.now()):
        raise EngineError(problem)
    if not cloud.url.endswith("/v1"):
        raise EngineError(f"{name} can't be measured: benchmarks need an address that ends in /v1.")
    try:
        # A benchmark's paths begin with /v1, which the stored address has already.
        return Engine(name, "openai", check_address(cloud.url).removesuffix("/v1"), key_of(cloud))
    except SealError as error:
        raise EngineError(f"{name}: {error}.") from error


def engine_of(parameters: Parameters) -> Engine:
    return find_engine(parameters.engine, parameters.url, parameters.key_variable)


def engine_models(engine: Engine) -> list[EngineModel]:
    """Models that generate text, by name. Raises EngineError."""
    answer, _ = _ask(engine, "/v1/models" if engine.api == "openai" else "/api/tags")
    try:
        if engine.api == "openai":
            return sorted((EngineModel(each["id"]) for each in answer["data"]), key=lambda model: model.name)
        able = [
            each for each in answer["models"] or () if "embedding" not in (each.get("capabilities") or ())
        ]
        return sorted(map(_model, able), key=lambda model: model.name)
    except (KeyError, TypeError) as error:
        raise EngineError(f"{engine.url} answers, but not with a list of models: is it an engine?") from error


def _model(tag: dict[str, Any]) -> EngineModel:
    details = tag.get("details") or {}
    return EngineModel(
        name=tag["name"],
        digest=tag.get("digest") or "",
        size_bytes=tag.get("size"),
        parameter_size=details.get("parameter_size") or "",
        quantization=details.get("quantization_level") or "",
        family=details.get("family") or "",
    )


def check_models(wanted: tuple[str, ...], found: list[EngineModel]) -> dict[str, EngineModel]:
    """Each wanted model; `name` finds `name:latest`. Raises UnknownModelError, which lists what exists."""
    by_name = {model.name: model for model in found}
    chosen = {name: by_name.get(name) or by_name.get(f"{name}:latest") for name in wanted}
    if unknown := [name for name, model in chosen.items() if model is None]:
        known = ", ".join(list(by_name)[:20]) or "none"
        raise UnknownModelError(f"The engine has no model {', '.join(unknown)}. It has: {known}.")
    return {name: model for name, model in chosen.items() if model is not None}


def engine_version(engine: Engine) -> tuple[str, str]:
    """(kind, version) of what answers in the end, "" where unknown: the gateway tells which engine it passed to."""
    if engine.api == "openai":
        return "openai", ""
    answer, headers = _ask(engine, "/api/version")
    version = answer.get("version") if isinstance(answer, dict) else None
    return headers.get("x-aicleaner-engine") or engine.name, str(version or "")


def _ask(engine: Engine, path: str) -> tuple[Any, "http.client.HTTPMessage"]:
    """GET without redirects or proxies, bounded in time and size. Raises EngineError without the key in it."""
    parts = urlsplit(engine.url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    headers = {"Accept": "application/json", "Connection": "close"}
    if engine.key:
        headers["Authorization"] = f"Bearer {engine.key}"
    try:
        connection.request("GET", parts.path + path, headers=headers)
        answer = connection.getresponse()
        body = answer.read(MAX_ANSWER)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise EngineError(f"{engine.url} does not answer: {error or type(error).__name__}.") from error
    finally:
        connection.close()
    if answer.status in {401, 403}:
        raise EngineError(f"{engine.url} wants an API key, or another one (it answered {answer.status}).")
    if answer.status != 200:
        raise EngineError(f"{engine.url}{path} answered {answer.status}: is the address right?")
    try:
        return json.loads(body), answer.headers
    except ValueError as error:
        raise EngineError(
            f"{engine.url}{path} answered something else than JSON: is the address right?"
        ) from error
