"""A request to an engine as it came, and the answer back as it comes."""

import asyncio
import logging

import aiohttp
from yarl import URL

from inference.gateway.aliases import Fallback
from inference.gateway.answers import broken_off, own_headers, send_error
from inference.gateway.asgi import Scope, Send
from inference.gateway.bodies import Upload
from inference.gateway.engines import Engine, Engines
from inference.gateway.fallbacks import EngineFailedError, refused
from inference.gateway.headers import HOP_BY_HOP, MARK, outgoing
from inference.gateway.meter import Meter
from inference.gateway.models import Models
from inference.gateway.routing import ENGINE_DOWN
from inference.gateway.sessions import Sessions
from inference.gateway.slots import Slots
from inference.gateway.stats import Stats
from inference.names import full_name

log = logging.getLogger("inference.gateway")


class Forwarding:
    """`mark`: by which the gateway knows its own requests. `silent_s`: seconds without a byte after which an engine counts as
    hanging."""

    def __init__(
        self,
        engines: Engines,
        sessions: Sessions,
        models: Models,
        slots: Slots,
        stats: Stats,
        *,
        mark: str,
        silent_s: float,
    ) -> None:
        self.engines, self.sessions, self.models = engines, sessions, models
        self.slots, self.stats = slots, stats
        self.mark, self.silent_s = mark, silent_s

    async def forward(
        self,
        scope: Scope,
        body: bytes | Upload,
        meter: Meter,
        send: Send,
        engine: Engine,
        fallback: Fallback | None = None,
    ) -> None:
        """Raises EngineFailedError where there is a fallback and nothing was sent yet."""
        # Both as they came: nothing is decoded, quoted or put in order on the way.
        path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
        if scope["query_string"]:
            path += "?" + scope["query_string"].decode("latin-1")
        headers = [*outgoing(scope["headers"], meter), (MARK.decode(), self.mark)]
        if isinstance(body, Upload) and body.length:
            headers.append(("content-length", str(body.length)))
        problem: Exception | None = None
        for attempt in (0, 1):
            meter.engine, meter.engine_kind, meter.engine_name = engine.url, engine.kind, engine.name
            context: dict[str, bool] = {}
            try:
                async with (
                    asyncio.timeout(fallback.first_byte_s if fallback else None) as first_byte,
                    self.sessions.both(added=engine.added)[attempt].request(
                        scope["method"],
                        URL(engine.url + path, encoded=True),
                        headers=headers,
                        data=body.parts() if isinstance(body, Upload) else body or None,
                        allow_redirects=False,
                        trace_request_ctx=context,
                    ) as answer,
                ):
                    first_byte.reschedule(None)
                    if answer.status >= 500 and attempt == 0 and self.slots.was_freed(meter.request_id):
                        continue  # its model was unloaded to free a slot that hung
                    if fallback is not None and answer.status >= 500:
                        raise await refused(answer)
                    if answer.status == 404 and meter.counted and answer.content_type == "text/plain":
                        await send_error(send, meter, 404, _too_old(engine, scope["path"], meter))
                    else:
                        await self._pass_back(answer, meter, send)
                    return
            except aiohttp.ClientConnectorError as error:
                problem = error  # nothing was sent: the next engine may have it
                await self.engines.probe(newer_than=meter.started)
                engine, again = self._next(engine, meter, has_fallback=fallback is not None)
            except (aiohttp.ClientError, OSError) as error:  # a TimeoutError is an OSError
                if isinstance(body, Upload) and body.problem is not None:
                    raise body.problem from error
                problem = error
                # The engine had closed the kept connection already.
                again = (
                    (bool(context.get("reused")) or self.slots.was_freed(meter.request_id))
                    and meter.status == 0
                    and not isinstance(error, TimeoutError)
                )
            if not again or (isinstance(body, Upload) and body.started):
                break
        await self._give_up(problem, meter, send, fallback)

    async def _give_up(
        self, problem: Exception | None, meter: Meter, send: Send, fallback: Fallback | None
    ) -> None:
        silent = isinstance(problem, TimeoutError) and not isinstance(problem, aiohttp.ConnectionTimeoutError)
        if silent:
            limit = (fallback.first_byte_s if fallback else None) or self.silent_s
            text = f"the engine at {meter.engine} has been silent for {limit:g} s"
        else:
            reason = str(problem) or type(problem).__name__
            text = f"the engine at {meter.engine} does not answer: {reason}"
        log.warning("%s: %s", meter.path, text)
        status = 504 if silent else 502
        if fallback is not None and meter.status == 0:
            raise EngineFailedError(text, status, "fallback: no answer in time" if silent else ENGINE_DOWN)
        meter.error = text
        if meter.status == 0:
            await send_error(send, meter, status, text)
        else:
            await broken_off(meter, send)

    def _next(self, failed: Engine, meter: Meter, *, has_fallback: bool) -> tuple[Engine, bool]:
        """The engine to ask after one that could not be connected to, and whether there is sense in it: it is another that has
        the model, or, where nobody else would help out, any; or the same one, which is back."""
        if meter.is_pinned:
            return failed, failed.up
        other = self.models.engine_of(full_name(meter.model)) if meter.model else None
        if other is not None and not other.is_cloud:
            return other, other is not failed or failed.up
        other = failed if has_fallback else self.engines.current
        return other, other is not failed or failed.up

    async def _pass_back(self, answer: aiohttp.ClientResponse, meter: Meter, send: Send) -> None:
        meter.status, meter.content_type = answer.status, answer.headers.get("Content-Type", "")
        meter.encoding = answer.headers.get("Content-Encoding", "")
        headers = [
            (name.lower(), value)
            for name, value in answer.raw_headers
            if name.lower() not in HOP_BY_HOP or name.lower() == b"content-length"
        ]
        await send(
            {
                "type": "http.response.start",
                "status": answer.status,
                "headers": [*headers, *own_headers(meter)],
            }
        )
        content = answer.content
        chunk = await content.readany()
        if meter.counted and chunk:
            self.stats.n_answering += 1
            if meter.slot is not None:
                self.slots.answers(meter.slot, meter.request_id)
        while not meter.complete:
            self.stats.pieces(meter.see(chunk))
            meter.complete = content.at_eof()  # a short answer goes out in one piece with its end
            await send({"type": "http.response.body", "body": chunk, "more_body": not meter.complete})
            if not meter.complete:
                chunk = await content.readany()


def _too_old(engine: Engine, path: str, meter: Meter) -> str:
    """A server that knows an endpoint answers in JSON. Notes it in the record."""
    version = f" {engine.version}" if engine.version else ""
    instead = (
        "; /api/embeddings, which takes one text at a time, may be there" if path == "/api/embed" else ""
    )
    meter.error = f"{engine.name}{version} has no {path}: it is too old for it{instead}"
    return meter.error
