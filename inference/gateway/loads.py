"""With which options models are loaded, and who had them otherwise before: that costs a reload.

The list of options and what leaves them open are those of a real server (its reload matrix is among the recorded
transcripts). Answers are noted in the order in which they end: an engine that has to reload waits for that itself."""

from collections.abc import Container
from typing import Any, NamedTuple

NUMBERS = ("num_ctx", "num_batch", "num_thread", "num_gpu", "main_gpu", "draft_num_predict")
LEFT_OPEN = {"num_thread": 0, "num_gpu": -1}
# An engine unloads an idle model after this long by default: what came before that is no reload's cause.
FORGOTTEN_S = 300.0
MAX_SIZES = 16  # of num_ctx, of one model: clients choose them
KEEP = 4  # Ollama's num_keep where a request names none


def load_options(values: dict[str, Any]) -> dict[str, Any]:
    """Those that a request names and that load the model anew when they change."""
    options = values.get("options")
    found: dict[str, Any] = {}
    if isinstance(options, dict) and options:
        for name in NUMBERS:
            if name in options and (number := _integer(options[name])) is not None:
                found[name] = number
        found = {name: value for name, value in found.items() if LEFT_OPEN.get(name) != value}
    if values.get("shift") is False:
        found["shift"] = False
    return found


def kept_tokens(values: dict[str, Any]) -> int:
    """Tokens at the beginning that a cut prompt keeps."""
    options = values.get("options")
    number = _integer(options.get("num_keep")) if isinstance(options, dict) else None
    return KEEP if number is None else max(number, 0)


def _integer(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 2**31:
        return None
    return int(value)


class Last(NamedTuple):
    """The last answer of a model: effective options, num_ctx as asked, whose it was, and when it ended."""

    options: dict[str, Any]
    size: int
    client: str
    at: float


class Loads:
    """By the full name of a model. It knows models that answered only, and forgets those the engine no longer has."""

    def __init__(self) -> None:
        self._last: dict[str, Last] = {}
        self._sizes: dict[
            str, dict[int, int]
        ] = {}  # num_ctx as asked (0: not) -> as the engine made it (0: unknown)

    def num_ctx(self, model: str, asked: dict[str, Any]) -> int | None:
        """The context in force for `asked`; None: the engine's own choice, which it has not told yet."""
        size = asked.get("num_ctx", 0)
        return self._sizes.get(model, {}).get(size) or size or None

    def note(
        self, model: str, asked: dict[str, Any], record: dict[str, Any], *, started: float, now: float
    ) -> None:
        """Complete the record of an answer; instants are time.monotonic()."""
        num_ctx = self.num_ctx(model, asked)
        options = asked if num_ctx is None else {**asked, "num_ctx": num_ctx}
        record["num_ctx"], record["load_options"] = num_ctx, options
        if record["status"] != 200 or record["error"]:
            return
        if record["done_reason"] == "unload":
            self._last.pop(model, None)
            return
        sizes, size = self._sizes.setdefault(model, {}), asked.get("num_ctx", 0)
        if len(sizes) < MAX_SIZES:
            sizes.setdefault(size, 0)
        last = self._last.get(model)
        if last is not None and last.options != options and started - last.at < FORGOTTEN_S:
            record["previous_options"], record["previous_client"] = last.options, last.client
        self._last[model] = Last(options, size, record["client"], now)

    def see(self, model: str, context_length: int, *, idle: bool) -> None:
        """What the engine says of a loaded model. While requests run, it may be loaded for another than the last one."""
        sizes, last = self._sizes.get(model, {}), self._last.get(model)
        if last is None or last.size not in sizes or not (idle or len(sizes) == 1):
            return
        sizes[last.size] = context_length
        if last.options.get("num_ctx") != context_length:
            self._last[model] = last._replace(options={**last.options, "num_ctx": context_length})

    def keep(self, models: Container[str]) -> None:
        self._last = {name: each for name, each in self._last.items() if name in models}
        self._sizes = {name: each for name, each in self._sizes.items() if name in models}
