"""`python -m benchmarks.load < plan.json`: see plan.py for what goes in, what comes out and the exit codes."""

import asyncio
import json
import os
import resource
import signal
import sys
from contextlib import suppress
from typing import Any

import uvloop
from pydantic import ValidationError

from benchmarks.load.plan import Plan, explain
from benchmarks.load.prepare import NotReadyError
from benchmarks.load.run import Measurement

MAX_PLAN_BYTES = 2**20


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def measure(plan: Plan) -> None:
    """Raises NotReadyError, BrokenPipeError. SIGTERM and Ctrl-C end it early; the result is printed all the same."""

    def tell(message: dict[str, Any]) -> None:
        try:
            say(json.dumps(message))
        except BrokenPipeError:  # nobody reads any more: what is measured would be lost
            running.cancel()

    measurement = Measurement(plan, tell)
    running = asyncio.ensure_future(measurement.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    with suppress(asyncio.CancelledError):
        await running
    result = measurement.result()
    complete = json.dumps(result.complete)
    say(f'{{"type": "result", "complete": {complete}, "result": {result.model_dump_json()}}}')


def main() -> int:
    text = sys.stdin.buffer.read(MAX_PLAN_BYTES + 1)
    try:
        plan = Plan.model_validate_json(text)
    except ValidationError as error:
        sys.stderr.writelines(f"{field}: {sentence}\n" for field, sentence in explain(error))
        return 2
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each request in flight holds a connection
    try:
        uvloop.run(measure(plan))
    except NotReadyError as error:
        sys.stderr.write(f"{error}\n")
        return 3
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
