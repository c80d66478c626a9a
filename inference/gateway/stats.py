"""Live rates of the gateway, second by second."""

import time
from bisect import bisect_left
from collections import Counter, deque
from typing import Any

WINDOW_S = 60
BOUNDS_S = tuple(0.01 * 2**n for n in range(14))  # as OpenTelemetry's conventions for GenAI have them
MAX_MODELS = 20  # with a histogram of their own; the names come from clients
MAX_COUNTED = 1000

Times = deque[tuple[float, float]]  # (when it ended, ms)


class Histograms:
    """Seconds by model: counts by bucket (the last one above all bounds), and their sum. They only ever grow."""

    def __init__(self) -> None:
        self.by_model: dict[str, tuple[list[int], list[float]]] = {}

    def add(self, model: str, ms: float) -> None:
        name = model if model in self.by_model or len(self.by_model) < MAX_MODELS else "others"
        counts, total = self.by_model.setdefault(name, ([0] * (len(BOUNDS_S) + 1), [0.0]))
        counts[bisect_left(BOUNDS_S, ms / 1000)] += 1
        total[0] += ms / 1000

    def as_json(self) -> dict[str, tuple[list[int], float]]:
        return {model: (counts, total[0]) for model, (counts, total) in self.by_model.items()}


class Speeds:
    """Of the requests that ended within the last minute, by model: how fast it generated, by the engine's own clock, and
    how long the prompts were. A rate of one second would be that of one request, or of none."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, str, int, float, int | None]] = deque(maxlen=10_000)

    def add(self, record: dict[str, Any], now: float) -> None:
        n, ms = record["output_tokens"], record["eval_ms"]
        if not record["error"] and n and ms:
            self._seen.append((now, record["model"], n, ms, record["prompt_tokens"]))

    def snapshot(self, now: float) -> dict[str, dict[str, float | None]]:
        while self._seen and self._seen[0][0] < now - WINDOW_S:
            self._seen.popleft()
        found: dict[str, dict[str, float | None]] = {}
        for model in dict.fromkeys(each[1] for each in self._seen):
            mine = [each for each in self._seen if each[1] == model]
            prompts = [each[4] for each in mine if each[4] is not None]
            found[model] = {
                "tokens_per_s": sum(each[2] for each in mine) / sum(each[3] for each in mine) * 1000,
                "prompt_tokens": sum(prompts) / len(prompts) if prompts else None,
            }
        return found


class Stats:
    """Counts since the last `snapshot` become rates; times to first token and of whole answers are kept for a minute."""

    def __init__(self, now: float) -> None:
        self.n_requests = self.n_errors = self.n_tokens = 0
        self.n_in_flight = self.n_answering = 0
        self.n_hits = self.n_misses = 0
        self.saved_s = 0.0
        self.by_model: Counter[str] = Counter()
        self._since = now
        self._last = (0, 0, 0, 0)
        self._n_prompt_tokens = 0
        self._ttft: Times = deque(maxlen=10_000)
        self._total: Times = deque(maxlen=10_000)
        self._ttft_histograms, self._total_histograms = Histograms(), Histograms()
        self._speeds = Speeds()

    def pieces(self, n: int) -> None:
        """Tokens as they stream; corrected by `finished`."""
        self.n_tokens += n

    def finished(self, record: dict[str, Any], n_pieces: int, now: float, saved_ms: float = 0.0) -> None:
        """`saved_ms`: what the answer took when it was generated, for one that came from the cache."""
        self.n_requests += 1
        model = record["model"]
        self.by_model[model if model in self.by_model or len(self.by_model) < MAX_COUNTED else "others"] += 1
        if record["error"]:
            self.n_errors += 1
        if record["cache"] == "hit":
            self.n_hits += 1
            self.saved_s += max(saved_ms - record["total_ms"], 0) / 1000
            return  # its tokens were generated, and its first one waited for, another time
        self.n_misses += record["cache"] == "miss"
        self._speeds.add(record, now)
        if record["output_tokens"] is not None:
            self.n_tokens += record["output_tokens"] - n_pieces
        self._n_prompt_tokens += record["prompt_tokens"] or 0
        if record["ttft_ms"] is not None:
            self._ttft.append((now, record["ttft_ms"]))
            self._ttft_histograms.add(record["model"], record["ttft_ms"])
        if not record["error"]:
            self._total.append((now, record["total_ms"]))
            self._total_histograms.add(record["model"], record["total_ms"])

    def snapshot(self, now: float) -> dict[str, Any]:
        seconds = max(now - self._since, 1e-3)
        counts = (self.n_requests, self.n_errors, self.n_tokens, self._n_prompt_tokens)
        requests, errors, tokens, prompt = (
            max(a - b, 0) / seconds for a, b in zip(counts, self._last, strict=True)
        )
        self._since, self._last = now, counts
        ttft, total = (recent(each, now) for each in (self._ttft, self._total))
        return {
            "at": time.time(),
            "requests_per_s": requests,
            "errors_per_s": errors,
            "tokens_per_s": tokens,
            "prompt_tokens_per_s": prompt,
            "ttft_p50_ms": quantile(ttft, 0.5),
            "ttft_p95_ms": quantile(ttft, 0.95),
            "total_p50_ms": quantile(total, 0.5),
            "total_p95_ms": quantile(total, 0.95),
            "running": self.n_answering,
            "queued": self.n_in_flight - self.n_answering,
            "requests_total": self.n_requests,
            "errors_total": self.n_errors,
            "tokens_total": self.n_tokens,
            "cache_hits_total": self.n_hits,
            "cache_misses_total": self.n_misses,
            "cache_saved_s_total": self.saved_s,
            "by_model": dict(self.by_model.most_common(20)),
            "speeds": self._speeds.snapshot(now),
            "histograms": {
                "bounds_s": BOUNDS_S,
                "ttft": self._ttft_histograms.as_json(),
                "total": self._total_histograms.as_json(),
            },
        }


def recent(times: Times, now: float) -> list[float]:
    """Ascending, those of the last WINDOW_S; older ones are dropped."""
    while times and times[0][0] < now - WINDOW_S:
        times.popleft()
    return sorted(each for _, each in times)


def quantile(ordered: list[float], q: float) -> float | None:
    """Nearest rank of an ascending list; None of an empty one."""
    return ordered[min(int(q * len(ordered)), len(ordered) - 1)] if ordered else None
