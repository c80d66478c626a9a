"""`python -m tests.benchmarks.timed --port N`: a server of known timing that speaks both APIs.

A request says in its options what it wants: `{"timing": {"ttft_ms": 50, "gap_ms": 10, "fault": "drop", "every": 3}}`; the number
of tokens is `num_predict`, or `tokens`. Each token is one write. The last line tells the real instants, so that what a
client measured can be compared with what happened (`spread_ms` adds up to so much to the TTFT, by a fixed sequence, so that
streams do not march in step): `prompt_eval_duration` from the last byte of the request to the first
write, `eval_duration` from the first to the last token, in ns. A prompt has as many tokens as words, and four more.

`GET /log` tells what came since the last `GET /log`."""

import argparse
import asyncio
import json
from itertools import pairwise
from time import monotonic, perf_counter_ns
from typing import Any, ClassVar, cast

import uvloop

N_TEMPLATE_TOKENS = 4


class Log:
    def __init__(self) -> None:
        self.running = 0
        self.clear()

    def clear(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.gaps_ms: list[float] = []
        self.ttfts_ms: list[float] = []
        self.most_at_once = 0
        self.n_cancelled = 0


class TimedProtocol(asyncio.Protocol):
    """One connection; requests come one after the other."""

    log = Log()
    default_timing: ClassVar[dict[str, Any]] = {}

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.buffer = b""
        self.reply: Reply | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own class is no subclass

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        fields = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head.decode().split("\r\n")[1:])
        }
        length = int(fields.get("content-length", 0))
        if len(rest) < length:
            return
        self.buffer = b""
        path = head.split(b" ", 2)[1].decode()
        if path == "/log":
            self.send_json(200, vars(self.log))
            self.log.clear()
        elif not path.startswith(("/api/chat", "/v1/chat")):
            self.send_json(200, {})
        elif self.reply is not None and self.reply.timing.get("closes_kept"):
            self.transport.abort()  # as a server does that had closed the kept connection at that moment
        else:
            self.reply = Reply(self, path, fields, json.loads(rest))

    def connection_lost(self, _: Exception | None) -> None:
        if self.reply is not None:
            self.reply.client_left()

    def send_json(self, status: int, value: Any) -> None:
        body = json.dumps(value).encode()
        self.transport.write(
            b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            % (status, len(body))
            + body
        )


class Reply:
    def __init__(
        self, protocol: TimedProtocol, path: str, fields: dict[str, str], body: dict[str, Any]
    ) -> None:
        self.received = perf_counter_ns()
        self.protocol, self.transport, self.loop = protocol, protocol.transport, protocol.loop
        self.native = path.startswith("/api/")
        options = body.get("options", {}) if self.native else body
        self.timing = options.get("timing", protocol.default_timing)
        self.n = options.get("num_predict" if self.native else "max_tokens") or self.timing.get("tokens", 8)
        message = body["messages"][0]
        content = message["content"]
        parts = [] if isinstance(content, str) else [each for each in content if each["type"] == "image_url"]
        self.text = content if isinstance(content, str) else content[0]["text"]
        self.n_images = len(message.get("images", [])) + len(parts)
        self.n_sent = 0
        self.written: list[int] = []
        self.timer: asyncio.TimerHandle | None = None
        self.ended = False
        log = protocol.log
        self.is_probe = self.n == 1
        number = 0
        if not self.is_probe:
            number = len(log.requests) + 1
            log.requests.append(
                {
                    "at": monotonic(),
                    "text": self.text,
                    "n_images": self.n_images,
                    "headers": fields,
                    "body": body,
                }
            )
        log.running += 1
        log.most_at_once = max(log.most_at_once, log.running)
        spread = self.timing.get("spread_ms", 0) * (number * 0.618034 % 1)
        self.ttft_ms = self.timing.get("ttft_ms", 0) + spread
        faulty = number and number % self.timing.get("every", 1) == 0
        self.fault = self.timing.get("fault") if faulty else None
        if self.timing.get("refuse_images") and self.n_images:
            self.finish(400, "this model takes no images")
        elif body["model"] == "unknown":
            self.finish(404, "model 'unknown' not found")
        elif self.fault == "status":
            self.finish(503, "server busy, please try again.")
        elif self.fault == "refuse":
            self.end()
            self.transport.abort()
        elif self.fault != "hang":
            self.start = self.loop.time()
            self.at(self.ttft_ms)

    def at(self, ms: float) -> None:
        self.timer = self.loop.call_at(self.start + ms / 1000, self.write_token)

    def write_token(self) -> None:
        self.written.append(perf_counter_ns())
        self.n_sent += 1
        thinking = self.n_sent <= self.timing.get("thinking", 0)
        data = self.token("think" if thinking else f" w{self.n_sent}", thinking)
        if self.n_sent == 1:
            data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + data
        half = self.n_sent == max(self.n // 2, 1)
        if half and self.fault in {"drop", "undone", "error", "garbage"}:
            self.break_off(data)
            return
        if self.fault == "long":
            data += frame(b"x" * 2**20 * 20)
        if self.n_sent == self.n:
            self.transport.write(data + self.ending() + b"0\r\n\r\n")
            self.end()
            return
        self.transport.write(data)
        self.at(self.ttft_ms + self.n_sent * self.timing.get("gap_ms", 0))

    def break_off(self, data: bytes) -> None:
        if self.fault == "error":
            line = json.dumps({"error": "the model's process ended"}).encode()
            data += frame(line + b"\n" if self.native else b"data: " + line + b"\n\n")
        if self.fault == "garbage":
            data += frame(b"<html>no stream</html>\n")
        self.transport.write(data + (b"" if self.fault == "drop" else b"0\r\n\r\n"))
        if self.fault == "drop":
            self.transport.close()
        self.end()

    def token(self, text: str, thinking: bool) -> bytes:
        if self.native:
            key = "thinking" if thinking else "content"
            message = {"role": "assistant", "content": "", key: text}
            return frame(json.dumps({"model": "m", "message": message, "done": False}).encode() + b"\n")
        delta = {"reasoning" if thinking else "content": text}
        chunk = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta}]}
        return frame(b"data: " + json.dumps(chunk).encode() + b"\n\n")

    def ending(self) -> bytes:
        n_prompt = len(self.text.split()) + N_TEMPLATE_TOKENS
        if self.native:
            done = {
                "model": "m",
                "message": {"role": "assistant", "content": ""},
                "done": True,
                "done_reason": "length",
                "total_duration": perf_counter_ns() - self.received,
                "load_duration": 1000,
                "prompt_eval_count": n_prompt,
                "prompt_eval_duration": self.written[0] - self.received,
                "eval_count": self.n,
                "eval_duration": self.written[-1] - self.written[0],
            }
            return frame(json.dumps(done).encode() + b"\n")
        last = {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}
        details = {"prompt_tokens_details": {"cached_tokens": 3}}
        usage = {"choices": [], "usage": {"prompt_tokens": n_prompt, "completion_tokens": self.n, **details}}
        lines = b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in (last, usage))
        return frame(lines + b"data: [DONE]\n\n")

    def finish(self, status: int, error: str) -> None:
        self.protocol.send_json(status, {"error": error if self.native else {"message": error}})
        self.end()

    def end(self) -> None:
        if self.ended:
            return
        self.ended = True
        self.protocol.log.running -= 1
        if self.written:
            self.protocol.log.ttfts_ms.append((self.written[0] - self.received) / 1e6)
        self.protocol.log.gaps_ms += [(after - before) / 1e6 for before, after in pairwise(self.written)]

    def client_left(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.protocol.log.n_cancelled += not self.ended
        self.end()


def frame(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(TimedProtocol, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--timing", type=json.loads, default={}, help="for requests that say nothing of it")
    arguments = parser.parse_args()
    TimedProtocol.default_timing = arguments.timing
    uvloop.run(serve(arguments.port))
