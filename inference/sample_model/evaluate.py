"""Judges a file of the sample model on lists whose pairs it never saw: `python -m inference.sample_model.evaluate`.

Greedy answers through llama.cpp, exact match of whole lists; Wilson interval (95 %) for the share."""

import argparse
import json
import math
import random
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xllamacpp

from inference.sample_model import corpus

FILE = Path(__file__).with_name("aicleaner-sample-f16.gguf")
SEED = 977  # not looked at while the recipe was made


@contextmanager
def serving(path: Path) -> Iterator[str]:
    """Address of a llama.cpp server in this process."""
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_parallel, params.port, params.verbosity = 512, 1, 0, 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.fit_params = False
    server = xllamacpp.Server(params)
    post(server.listening_address, {"prompt": "x", "n_predict": 1})
    try:
        yield server.listening_address
    finally:
        del server


def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(  # noqa: S310 - our own loopback address
        f"{url}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        return dict(json.loads(answer.read()))


def wilson(n_right: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Interval of a share (Wilson 1927)."""
    p = n_right / n
    centre, spread = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (centre - spread) / (1 + z * z / n), (centre + spread) / (1 + z * z / n)


def evaluate(path: Path, n_lists: int = 300, seed: int = SEED) -> dict[str, Any]:
    """Shares of exact lists and of right lines over `n_lists` lists of one to four unseen pairs."""
    random_ = random.Random(seed)
    n_exact, right = 0, []
    with serving(path) as url:
        for _ in range(n_lists):
            example = corpus.draw(random_, random_.randint(1, 4), unseen=True)
            prompt = example.text.partition("<|assistant|>")[0] + "<|assistant|>"
            answer = post(url, {"prompt": prompt, "n_predict": 200, "temperature": 0, "cache_prompt": False})
            n_exact += corpus.is_exact(example, answer["content"])
            right += corpus.right_lines(example, answer["content"])
    low, high = wilson(n_exact, n_lists)
    return {
        "lists": n_lists,
        "seed": seed,
        "exact_lists": n_exact / n_lists,
        "exact_lists_interval_95": [round(low, 4), round(high, 4)],
        "right_lines": round(sum(right) / len(right), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", nargs="?", type=Path, default=FILE)
    parser.add_argument("--lists", type=int, default=300)
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    print(json.dumps(evaluate(arguments.file, arguments.lists, arguments.seed), indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
