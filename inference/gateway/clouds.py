"""A request that a cloud answers: put into its words, and its answer back into those of the client.

The client's headers stay here; the cloud gets its own key and nothing else of the request."""

import json
import re
import time
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from inference.gateway.answers import broken_off, for_page, own_headers, respond
from inference.gateway.answers_of_clouds import Answer, NoAnswerError, OpenAiStream
from inference.gateway.asgi import Send
from inference.gateway.engines import Engine, Engines
from inference.gateway.meter import Meter
from inference.gateway.probing import reason_of
from inference.gateway.stats import Stats
from inference.gateway.translate import Translated, UntranslatableError, translate

MAX_ANSWER = 64 * 2**20
CONNECT_S = 10.0
_CACHED = re.compile(rb'"cached_tokens"\s*:\s*(\d+)')


class CloudFailedError(Exception):
    """Before anything was sent to the client. `status`: the one that it gets."""

    def __init__(self, text: str, status: int = 502) -> None:
        super().__init__(text)
        self.status = status


class Clouds:
    def __init__(self, engines: Engines, stats: Stats, silent_s: float) -> None:
        self.engines, self.stats = engines, stats
        self.timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=silent_s)

    async def answer(
        self, cloud: Engine, model: str, values: dict[str, Any], meter: Meter, send: Send
    ) -> None:
        """Raises CloudFailedError while the client has got nothing."""
        meter.engine, meter.engine_kind, meter.engine_name = cloud.url, cloud.kind, cloud.name
        meter.model, meter.asked = model, None  # nothing is loaded for it
        try:
            host = urlsplit(cloud.url).hostname or ""
            asked = translate(
                meter.path, values, model, stream=meter.stream, is_openai=host.endswith("openai.com")
            )
        except UntranslatableError as error:
            raise CloudFailedError(f"{cloud.name} can't be asked this: {error}", 400) from error
        meter.ignored = ",".join(asked.ignored)
        try:
            await self._ask(cloud, asked, meter, send)
        except (aiohttp.ClientError, OSError, NoAnswerError) as error:
            text = (
                str(error)
                if isinstance(error, NoAnswerError)
                else reason_of(error, self.timeout.sock_read or 0)
            )
            text = f"{cloud.name} failed: {_without(text, cloud.key)}"
            cloud.failed(text, time.time())
            if meter.status == 0:
                raise CloudFailedError(text, 504 if isinstance(error, TimeoutError) else 502) from error
            meter.error = text
            await broken_off(meter, send)

    async def _ask(self, cloud: Engine, asked: Translated, meter: Meter, send: Send) -> None:
        headers = {
            "Content-Type": "application/json",
            "Accept": "text/event-stream" if meter.stream else "*/*",
        }
        if cloud.key:
            headers["Authorization"] = f"Bearer {cloud.key}"
        body = json.dumps(asked.body).encode()
        kept, fresh = self.engines.sessions.both(added=cloud.added)
        context: dict[str, bool] = {}
        try:
            await self._post(kept, cloud, asked.path, body, headers, context, meter, send)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            # The cloud had closed the kept connection already.
            if meter.status or not context.get("reused") or isinstance(error, aiohttp.ClientConnectorError):
                raise
            await self._post(fresh, cloud, asked.path, body, headers, {}, meter, send)

    async def _post(
        self,
        session: aiohttp.ClientSession,
        cloud: Engine,
        path: str,
        body: bytes,
        headers: dict[str, str],
        context: dict[str, bool],
        meter: Meter,
        send: Send,
    ) -> None:
        async with session.post(
            URL(cloud.url + path, encoded=True),
            data=body,
            headers=headers,
            allow_redirects=False,
            timeout=self.timeout,
            trace_request_ctx=context,
        ) as answer:
            if answer.status != 200:
                raise self._refused(cloud, answer.status, await answer.content.read(65536))
            if meter.stream:
                await self._stream(answer, meter, send)
            else:
                await self._whole(answer, meter, send)

    def _refused(self, cloud: Engine, status: int, body: bytes) -> CloudFailedError:
        """A refused key is no fault of the client's: it must not take it for its own."""
        said = _without(_said(body), cloud.key)
        text = f"{cloud.name} answered HTTP {status}: {said}"
        ours = status in {401, 403} or status >= 500 or status < 400
        if ours or status == 429:
            cloud.failed(text, time.time())
        return CloudFailedError(text, 502 if ours else status)

    async def _whole(self, answer: aiohttp.ClientResponse, meter: Meter, send: Send) -> None:
        body = await _read(answer)
        is_openai = meter.path.startswith("/v1/")
        told = body if is_openai else Answer(meter.path, meter.model, meter.started).whole(body)
        meter.content_type = "application/json"
        meter.see(told)
        meter.cached_tokens = cached_tokens(body)
        if meter.counted:
            self.stats.n_answering += 1
        await respond(send, meter, 200, told, "application/json")

    async def _stream(self, answer: aiohttp.ClientResponse, meter: Meter, send: Send) -> None:
        """The head goes out with the first piece, so that an error before it keeps its status."""
        if meter.path.startswith("/v1/"):
            await self._openai_stream(answer, meter, send)
            return
        meter.content_type = "application/x-ndjson"
        translated = Answer(meter.path, meter.model, meter.started)
        async for chunk in answer.content.iter_any():
            if b"cached_tokens" in chunk:
                meter.cached_tokens = cached_tokens(chunk)
            await self._give(translated.lines(chunk), meter, send)
        await self._give(translated.last_line(), meter, send)
        await self._end(meter, send)

    async def _openai_stream(self, answer: aiohttp.ClientResponse, meter: Meter, send: Send) -> None:
        meter.content_type, with_usage = "text/event-stream", meter.tells_tokens
        stream, meter.tells_tokens = OpenAiStream(with_usage=with_usage), True
        async for chunk in answer.content.iter_any():
            if b"cached_tokens" in chunk:
                meter.cached_tokens = cached_tokens(chunk)
            for piece, is_given in stream.pieces(chunk):
                if is_given:
                    await self._give(piece, meter, send)
                else:
                    meter.see(piece)
        if not stream.is_over:
            raise NoAnswerError("its stream ended before it was done")
        await self._end(meter, send)

    async def _give(self, told: bytes, meter: Meter, send: Send) -> None:
        if not told:
            return
        if meter.status == 0:
            meter.status = 200
            if meter.counted:
                self.stats.n_answering += 1
            kind = (b"content-type", meter.content_type.encode())
            headers = [kind, *for_page(meter), *own_headers(meter)]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        self.stats.pieces(meter.see(told))
        await send({"type": "http.response.body", "body": told, "more_body": True})

    async def _end(self, meter: Meter, send: Send) -> None:
        if meter.status == 0:
            raise NoAnswerError("its stream was empty")
        meter.complete = True
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    parts, size = [], 0
    async for part in answer.content.iter_any():
        size += len(part)
        if size > MAX_ANSWER:
            raise NoAnswerError(f"its answer is larger than {MAX_ANSWER} bytes")
        parts.append(part)
    return b"".join(parts)


def _said(body: bytes) -> str:
    """The cloud's own words, where it gives an error as OpenAI does."""
    try:
        found = json.loads(body)
        found = found[0] if isinstance(found, list) else found  # Gemini's
        error = found["error"]
        return str(error["message"] if isinstance(error, dict) else error)[:300]
    except (ValueError, KeyError, IndexError, TypeError):
        return body[:100].decode(errors="replace").strip() or "nothing"


def _without(text: str, key: str) -> str:
    """Servers quote a key that they refuse."""
    return text.replace(key, "…") if key else text


def cached_tokens(text: bytes) -> int | None:
    """Tokens of the prompt that the cloud had kept, and takes less for."""
    found = _CACHED.search(text)
    return int(found[1]) if found else None
