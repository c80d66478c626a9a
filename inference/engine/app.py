"""The engine's HTTP application."""

import asyncio
import ipaddress
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import NoReturn
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

from inference.engine import catalog, native, openai
from inference.engine.errors import EngineError
from inference.engine.generation import Engine
from inference.engine.native import ENGINE, STORE
from inference.engine.scheduler import Scheduler
from inference.engine.store import ModelStore

MAX_BODY_BYTES = 64 * 2**20
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS",
    "Access-Control-Max-Age": "43200",
}
APPS = frozenset({"app", "file", "tauri", "vscode-file", "vscode-webview"})  # schemes of apps on this machine
NOT_OFFERED = ("/api/pull", "/api/push", "/v1/responses", "/v1/messages")
log = logging.getLogger("inference.engine")


def is_local(host: str) -> bool:
    """Whether a Host header names this machine or its network, as Ollama's own check does."""
    name = urlsplit(f"//{host}").hostname or ""
    with suppress(ValueError):
        return ipaddress.ip_address(name).is_private or ipaddress.ip_address(name).is_loopback
    return name == "localhost" or name.endswith((".localhost", ".local", ".internal"))


def is_welcome(origin: str, host: str) -> bool:
    """Whether a page of this origin may drive the models: one of this machine, an app on it, or of the very address that it
    asks."""
    found = urlsplit(origin)
    here = found.hostname in {"localhost", "127.0.0.1", "0.0.0.0", "::1"}  # noqa: S104 - a name
    return here or found.netloc == host or found.scheme in APPS


@web.middleware
async def guard(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Refuses foreign hosts and origins, answers preflights, and words errors as Ollama does."""
    origin = request.headers.get("Origin")
    try:
        if not is_local(request.host) or (origin and not is_welcome(origin, request.host)):
            return web.Response(status=403)
    except ValueError:  # a bracket that is never closed
        return web.Response(status=403)
    if origin and request.method == "OPTIONS":
        # Clients have headers of their own (OpenAI's: x-stainless-...); who got here may send any.
        wanted = request.headers.get("Access-Control-Request-Headers", "Authorization,Content-Type")
        return web.Response(status=204, headers={**PREFLIGHT, "Access-Control-Allow-Headers": wanted})
    try:
        return await handler(request)
    except EngineError as error:
        return told(request, error)
    except web.HTTPMethodNotAllowed as error:
        allow = ", ".join(sorted(error.allowed_methods - {"HEAD"}))
        return web.Response(status=405, text="405 method not allowed", headers={"Allow": allow})
    except web.HTTPNotFound:
        return web.Response(status=404, text="404 page not found")
    except web.HTTPRequestEntityTooLarge:
        return told(request, EngineError(413, f"the request body is larger than {MAX_BODY_BYTES} bytes"))
    except web.RequestPayloadError as error:
        return told(request, EngineError(400, f"the request body can't be read: {error}"))
    except ConnectionResetError:  # the client has left, which is no error: nobody reads this
        return web.Response(status=499)
    except (web.HTTPException, asyncio.CancelledError):
        raise
    except RecursionError:
        return told(request, EngineError(400, "exceeded max depth"))
    except OSError as error:  # a full or read-only disk under the models
        log.warning("%s %s: %s", request.method, request.path, error)
        return told(request, EngineError(500, f"the models' folder: {error.strerror or error}"))
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return told(request, EngineError(500, "internal error of the embedded engine; its log says more"))


def told(request: web.Request, error: EngineError) -> web.Response:
    openais = request.path.startswith("/v1/")
    return web.json_response(
        {"error": openai.openai_error(error) if openais else error.message}, status=error.status
    )


async def allow_origin(request: web.Request, response: web.StreamResponse) -> None:
    """A page that got past `guard` may read the answer."""
    if (origin := request.headers.get("Origin")) and response.status != 403:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Vary"] = "Origin"


async def not_offered(request: web.Request) -> NoReturn:
    raise EngineError(404, f"{request.path} is not offered by the embedded engine; a real Ollama has it")


def make_app(store: ModelStore, scheduler: Scheduler) -> web.Application:
    app = web.Application(middlewares=[guard], client_max_size=MAX_BODY_BYTES)
    app[STORE] = store

    async def run(app: web.Application) -> AsyncIterator[None]:
        # llama.cpp's server often closes a kept-alive connection after a stream: a new one each time never meets that.
        connector = aiohttp.TCPConnector(force_close=True, limit=0)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, read_bufsize=2**24, json_serialize=json.dumps
        ) as session:
            app[ENGINE] = Engine(scheduler, session)
            watch = asyncio.create_task(_expire(scheduler))
            yield
            watch.cancel()
            await scheduler.close()

    app.cleanup_ctx.append(run)
    app.on_response_prepare.append(allow_origin)
    get, post = app.router.add_get, app.router.add_post
    get("/", catalog.root)
    get("/api/version", catalog.version)
    get("/api/tags", catalog.tags)
    get("/api/ps", catalog.ps)
    post("/api/show", catalog.show)
    post("/api/create", catalog.create)
    post("/api/copy", catalog.copy)
    app.router.add_delete("/api/delete", catalog.delete)
    app.router.add_head("/api/blobs/{digest}", catalog.head_blob)
    post("/api/blobs/{digest}", catalog.post_blob)
    post("/api/generate", native.generate)
    post("/api/chat", native.chat)
    post("/api/embed", native.embed)
    post("/api/embeddings", native.embeddings)
    get("/v1/models", openai.models)
    get("/v1/models/{name:.+}", openai.model)
    post("/v1/chat/completions", openai.chat_completions)
    post("/v1/completions", openai.completions)
    post("/v1/embeddings", openai.embeddings)
    for path in NOT_OFFERED:
        post(path, not_offered)
    return app


async def _expire(scheduler: Scheduler) -> None:
    while True:
        await asyncio.sleep(0.5)
        await scheduler.expire(time.time())
