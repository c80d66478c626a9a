"""What a job tells whoever started it, a JSON object a line."""

import json
import sys
import time
from typing import Any

STEP_EVERY_S = 0.25
_said = 0.0


class WorkError(Exception):
    """The job can't go on; the text is for the person who started it."""


def say(kind: str, **data: Any) -> None:
    sys.stdout.write(json.dumps({"type": kind, **data}) + "\n")
    sys.stdout.flush()


def step(name: str, done: int, total: int, unit: str, **more: float) -> None:
    """Progress within step `name`; not more often than people can see, but always the end. `more`: of training, its `loss`,
    `tokens_per_s` and `eta_s`."""
    global _said
    now = time.monotonic()
    if done >= total or now - _said >= STEP_EVERY_S:
        _said = now
        say("step", step=name, done=done, total=total, unit=unit, **more)
