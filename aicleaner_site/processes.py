"""The processes of the product: for each the command line, and the order of starting (stopping goes the other way)."""

import os
import shlex
import sys
from dataclasses import dataclass

from django.conf import settings

from aicleaner_site import valkey
from inference.gateway.pushed import ENGINE_KEYS
from safeguards.sealing import engine_secrets

QUEUES = "default,benchmarks,models,deliveries"


@dataclass(frozen=True)
class Process:
    name: str
    command: list[str]
    order: int = 20

    def __str__(self) -> str:
        return f"{self.name}: {shlex.join(self.command)}"


def all_processes() -> list[Process]:
    processes = [
        Process("engine", engine_command()),
        Process("gateway", gateway_command()),
        Process("collector", [sys.executable, "manage.py", "collect"]),
        Process("web", web_command()),
        Process("worker", celery_command("worker")),
        Process("beat", celery_command("beat")),
    ]
    if settings.VALKEY_EMBEDDED:
        return [Process("valkey", valkey_command(), order=10), *processes]
    return processes


def valkey_command() -> list[str]:
    return valkey.server_command(settings.VALKEY_SOCKET, settings.DATA_DIR / "valkey")


def engine_command() -> list[str]:
    resources = settings.CONFIG.resource_management
    return [
        *(sys.executable, "-m", "inference.engine"),
        *("--host", settings.ENGINE_HOST, "--port", str(settings.ENGINE_PORT)),
        *("--models", str(settings.MODELS_DIR)),
        *("--max-loaded", str(resources.model_cache_size)),
        *("--keep-alive", f"{resources.unload_timeout_minutes:g}m"),
        *("--num-parallel", str(settings.ENGINE_NUM_PARALLEL), "--max-queue", str(settings.ENGINE_MAX_QUEUE)),
        *("--context-length", str(settings.ENGINE_CONTEXT_LENGTH)),
        *("--kv-cache-type", settings.ENGINE_KV_CACHE_TYPE),
        *("--flash-attention", settings.ENGINE_FLASH_ATTENTION),
        *("--seed-model", f"aicleaner-sample={settings.SAMPLE_MODEL}"),
    ]


def gateway_command() -> list[str]:
    engines = [
        word for engine in settings.ENGINES for word in ("--engine", f"{engine['kind']}={engine['url']}")
    ]
    caching, resources = settings.CONFIG.caching, settings.CONFIG.resource_management
    return [
        *(sys.executable, "-m", "inference.gateway"),
        *("--host", settings.GATEWAY_HOST, "--port", str(settings.GATEWAY_PORT)),
        # Another server's address may hold a password: the gateway takes that from REDIS_URL, as this process did.
        *(("--valkey", settings.VALKEY_URL) if settings.VALKEY_EMBEDDED else ()),
        *(*engines, "--max-body", str(settings.GATEWAY_MAX_BODY_BYTES)),
        *("--max-queue", str(settings.ENGINE_MAX_QUEUE)),
        *(
            "--cache-ttl",
            f"{caching.cache_ttl_minutes * 60:g}",
            "--cache-entries",
            str(caching.max_cache_entries),
        ),
        *(() if caching.inference_cache_enabled else ("--no-cache",)),
        *(() if caching.cache_compression else ("--no-cache-compression",)),
        *(("--keep-prompts", str(settings.KEEP_PROMPT_BYTES)) if settings.KEEP_PROMPT_BYTES else ()),
        *("--max-loaded", str(resources.model_cache_size)),
        *("--unload-after", f"{resources.unload_timeout_minutes * 60:g}"),
        *(("--relieve",) if resources.auto_cleanup else ()),
        *("--require-key", settings.GATEWAY_REQUIRE_KEY),
        *("--secret-file", str(settings.DATA_DIR / "secret_key")),
        *("--keys-file", str(settings.DATA_DIR / "gateway-keys.json")),
        *(word for each in settings.GATEWAY_TRUSTED_PROXIES for word in ("--trusted-proxy", each)),
    ]


def hand_over_engine_keys() -> None:
    """To the gateway, by the environment: it opens API keys, and does not know the product's secret key. Neither a file nor a
    command line has them."""
    os.environ[ENGINE_KEYS] = " ".join(engine_secrets.keys())


def web_command() -> list[str]:
    address = ("-b", settings.WEB_HOST, "-p", str(settings.WEB_PORT))
    # Often enough for proxies that close a connection silent for 60 s; each ping costs as much as a sample.
    pings = ("--ping-interval", "45")
    return [
        sys.executable,
        "-m",
        "aicleaner_site.web",
        *address,
        *pings,
        "-v",
        "0",
        "aicleaner_site.asgi:application",
    ]


def celery_command(part: str) -> list[str]:
    start = [sys.executable, "-m", "celery", "-A", "aicleaner_site", part, "--loglevel", "INFO"]
    if part == "beat":
        return [*start, "--pidfile="]
    # Threads: the work waits for the network and for processes of its own; one process keeps the memory small.
    pool = ("--pool", "threads", "--concurrency", "8", "--queues", QUEUES)
    return [*start, *pool, "--without-gossip", "--without-mingle", "--without-heartbeat"]
