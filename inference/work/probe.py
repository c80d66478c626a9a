"""A GGUF file asked directly by llama.cpp, without the engine: the same positions again and again while types are tried."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from inference.dependants import dependant
from inference.quality.divergence import Top
from inference.work.messages import WorkError

TOP = 64
LOAD_WITHIN_S, ANSWER_WITHIN_S = 600, 600


def n_threads() -> int:
    """The rest of the machine goes on serving."""
    return max(len(os.sched_getaffinity(0)) // 2, 1)


class Probe:
    """One loaded file."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=ANSWER_WITHIN_S, trust_env=False)

    def tokens(self, text: str) -> list[int]:
        answer = self._post("/tokenize", {"content": text, "add_special": True, "parse_special": True})
        return [int(each) for each in answer["tokens"]]

    def continuation(self, tokens: list[int], n: int) -> list[int]:
        """The greedy one, of at most `n` tokens."""
        body = {"prompt": tokens, "n_predict": n, "temperature": 0, "return_tokens": True}
        return [int(each) for each in self._post("/completion", body).get("tokens") or ()]

    def answer(self, prompt: str, n: int) -> str:
        """The greedy answer to a rendered prompt, as text without special tokens."""
        body = {"prompt": self.tokens(prompt), "n_predict": n, "temperature": 0}
        return str(self._post("/completion", body)["content"])

    def distributions(self, tokens: list[int], start: int) -> list[Top | None]:
        """After each prefix that ends at `start` or later: the most likely next tokens by their number. None where the most
        likely token is half a character, of which llama.cpp tells nothing."""
        found: list[Top | None] = []
        for end in range(start, len(tokens)):
            body = {
                "prompt": tokens[:end],
                "n_predict": 1,
                "temperature": 0,
                "n_probs": TOP,
                "cache_prompt": True,
            }
            told = self._post("/completion", body).get("completion_probabilities")
            found.append(
                {str(each["id"]).encode(): float(each["logprob"]) for each in told[0]["top_logprobs"]}
                if told
                else None
            )
        return found

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        for attempt in (1, 2):
            try:
                answer = self.http.post(path, json=body)
                answer.raise_for_status()
                return dict(answer.json())
            except httpx.RemoteProtocolError:  # it closes kept connections now and then
                if attempt == 2:
                    raise
        raise AssertionError("unreachable")


@contextmanager
def probing(file: Path, num_ctx: int) -> Iterator[Probe]:
    """Raises WorkError for a file that llama.cpp can't load, or that goes away meanwhile."""
    wanted = {
        "model": str(file),
        "num_ctx": num_ctx,
        "n_parallel": 1,
        "num_batch": 512,
        "threads": n_threads(),
        "num_gpu": None,
        "main_gpu": None,
        "kv_cache_type": "f16",
        "flash_attention": None,
        "shift": False,
        "embedding": False,
        "use_mmap": True,
    }
    command = [sys.executable, "-m", "inference.engine.runner", json.dumps(wanted)]
    with dependant(command) as (_, lines):
        told = json.loads(lines.readline() or '{"error": "it ended while loading"}')
        if "error" in told:
            raise WorkError(f"llama.cpp can't load {file.name}: {told['error']}")
        probe = Probe(told["url"])
        try:
            yield probe
        except (httpx.HTTPError, KeyError, ValueError, IndexError) as error:
            raise WorkError(f"llama.cpp failed on {file.name}: {error or type(error).__name__}") from error
        finally:
            probe.http.close()


def read_positions(probe: Probe, prompts: Sequence[str], n_tokens: int) -> list[tuple[list[int], int]]:
    """Of each prompt: its tokens with the greedy continuation, and where that begins."""
    found = []
    for prompt in prompts:
        tokens = probe.tokens(prompt)
        found.append((tokens + probe.continuation(tokens, n_tokens), len(tokens)))
    return found
