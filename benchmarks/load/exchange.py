"""One request and its streamed answer: bytes are stamped as they come and parsed when the stream has ended."""

import asyncio
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import aiohttp

from benchmarks.load.apis import APIS, Answer
from benchmarks.load.plan import Plan
from benchmarks.load.result import Status
from benchmarks.workloads.prompts import Prompt

MAX_ANSWER_BYTES = 16 * 2**20
MAX_ERROR_BYTES = 64 * 1024
MAX_ERROR_TEXT = 300
LINES_AT_ONCE = 256  # parsed before other streams get their turn: about half a millisecond
NOT_THIS_API = (ValueError, KeyError, TypeError, IndexError, AttributeError)


@dataclass(slots=True)
class Exchange:
    """Instants in seconds of `perf_counter`."""

    prompt_id: str
    stream: int
    scheduled: float
    sent: float | None = None
    ended: float | None = None  # read to its end, or failed
    status: Status = Status.CUT
    http_status: int | None = None
    error: str | None = None
    answer: Answer = field(default_factory=Answer)
    content_at: list[float] = field(default_factory=list)  # arrival of each chunk with content
    n_lines: int = 0
    reused: bool = False  # the connection had served a request before

    def fail(self, status: Status, error: str) -> None:
        self.status = status
        self.error = " ".join(error.split())[:MAX_ERROR_TEXT]


class Client:
    """Sends requests as one plan says. `async with`."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.api = APIS[plan.api](plan)
        self.url = plan.url + self.api.path
        self.n_reads = 0
        self.n_lines = 0

    async def __aenter__(self) -> "Client":
        headers = {**self.plan.headers, "Content-Type": "application/json", "Accept-Encoding": "identity"}
        headers.setdefault("User-Agent", "aicleaner-benchmark")
        if self.plan.api_key is not None:
            headers["Authorization"] = f"Bearer {self.plan.api_key.get_secret_value()}"
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(_note_reuse)
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
            timeout=aiohttp.ClientTimeout(total=None),  # one timer per request, not one per read
            headers=headers,
            trace_configs=[trace],
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    async def send(self, exchange: Exchange, prompt: Prompt, limit: int | None) -> None:
        """Run the exchange to its end. Only a cancellation is raised; the exchange is then CUT."""
        body = json.dumps(self.api.body(prompt, limit), ensure_ascii=False).encode()
        reads: list[tuple[float, bytes]] = []
        parsing = self._parse(exchange, reads)
        try:
            await self._exchange(exchange, body, reads)
            for _ in parsing:
                await asyncio.sleep(0)
        finally:
            self.n_reads += len(reads)
            for _ in parsing:  # only after a cancellation is anything left
                pass

    async def _exchange(self, exchange: Exchange, body: bytes, reads: list[tuple[float, bytes]]) -> None:
        try:
            async with asyncio.timeout(self.plan.timeout_s):
                exchange.sent = perf_counter()
                try:
                    await self._read(exchange, body, reads)
                except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                    if not exchange.reused or exchange.http_status is not None:
                        raise
                    exchange.reused = (
                        False  # the server had closed the kept connection: once more, on a new one
                    )
                    await self._read(exchange, body, reads)
            if exchange.error is None:
                exchange.status = Status.OK
        except TimeoutError:
            exchange.fail(Status.TIMEOUT, f"not done within {self.plan.timeout_s:g} s")
        except (aiohttp.ClientError, OSError) as error:
            began = exchange.http_status is not None
            exchange.fail(Status.BROKEN if began else Status.CONNECTION, connection_text(error))
        exchange.ended = perf_counter()

    async def _read(self, exchange: Exchange, body: bytes, reads: list[tuple[float, bytes]]) -> None:
        request = self.session.post(self.url, data=body, allow_redirects=False, trace_request_ctx=exchange)
        async with request as response:
            exchange.http_status = response.status
            if response.status != 200:
                text = await response.content.read(MAX_ERROR_BYTES)
                exchange.fail(Status.HTTP, f"HTTP {response.status}: {error_text(text)}")
                response.close()
                return
            read, n_bytes = response.content.readany, 0
            while data := await read():
                reads.append((perf_counter(), data))
                self.n_lines += data.count(b"\n")
                n_bytes += len(data)
                if n_bytes > MAX_ANSWER_BYTES:
                    exchange.fail(Status.BROKEN, f"the answer is larger than {MAX_ANSWER_BYTES} bytes")
                    response.close()
                    return

    def _parse(self, exchange: Exchange, reads: list[tuple[float, bytes]]) -> Iterator[None]:
        """Fill in what the stream said; yields now and then, so that other streams get their turn."""
        answer, rest = exchange.answer, b""
        try:
            for at, data in reads:
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    if line.strip() and self.api.read_line(line, at, answer):
                        exchange.content_at.append(at)
                    exchange.n_lines += 1
                    if exchange.n_lines % LINES_AT_ONCE == 0:
                        yield
            if rest.strip() and self.api.read_line(rest, reads[-1][0], answer):
                exchange.content_at.append(reads[-1][0])
        except NOT_THIS_API:
            if exchange.status is Status.OK:
                exchange.fail(Status.BROKEN, f"the answer is not what {self.plan.api}'s API sends")
            return
        if exchange.status is not Status.OK:
            return
        if answer.error is not None:
            exchange.fail(Status.ENGINE, answer.error)
        elif answer.done is None:
            exchange.fail(Status.BROKEN, "the stream ended before it said that it is done")


def error_text(body: bytes) -> str:
    """The sentence in an error answer of either API; else its beginning."""
    try:
        error: Any = json.loads(body)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except NOT_THIS_API:
        return body.decode(errors="replace").strip()[:MAX_ERROR_TEXT] or "no text"


def connection_text(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno or 0  # a name that is not found has a negative one
        return os.strerror(number) if number > 0 else error.os_error.strerror or str(error.os_error)
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the connection broke in the middle of the answer"
    return str(error) or type(error).__name__


async def _note_reuse(_: aiohttp.ClientSession, context: SimpleNamespace, __: Any) -> None:
    context.trace_request_ctx.reused = True
