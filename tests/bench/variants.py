"""What each type costs: the sample model in every type, Dynamic at three budgets, fewer layers pruned and distilled, and a file
of 2 GB quantized.

`python -m tests.bench.variants` writes the tables into docs/variants.md, `... distilled` that of fewer layers alone (it needs
PyTorch); as a part of `make bench` only the figures are shown."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from inference.gguf_tools.container import encoded, pad, write_header
from inference.gguf_tools.mixes import FILE_TYPES
from tests.bench import Row
from tests.product import BASE_DIR, Product

MODEL = "aicleaner-sample"
TYPES = tuple(name for name in FILE_TYPES if name not in {"F32", "F16", "BF16"})
BUDGETS = ("q3_K_M", "q4_K_M", "q5_K_M")
BIG_LAYERS, BIG_DIM, BIG_FFN, BIG_VOCAB = 22, 2048, 8192, 32_000
DOCS = BASE_DIR / "docs" / "variants.md"
MARK = "<!-- made by python -m tests.bench.variants -->"
MARK_DISTILLED = "<!-- made by python -m tests.bench.variants distilled -->"
END_DISTILLED = "<!-- end -->"
STUDENTS = (4, 2)  # layers, of 6
STEPS = 100


def quantize(product: Product, level: str, *more: str) -> dict[str, Any]:
    return make(product, "quantize", MODEL, level, *more)


def make(product: Product, *arguments: str) -> dict[str, Any]:
    """The job as `manage.py ... --json` prints it."""
    command = [sys.executable, "manage.py", *arguments, "--json", "--n-scored", "150"]
    done = subprocess.run(
        command, cwd=BASE_DIR, env=product.environment, capture_output=True, text=True, check=True
    )
    return dict(json.loads(done.stdout))


def write_big(path: Path) -> int:
    """An F16 file of 2.5 GB with seeded weights, written layer by layer; returns its bytes."""
    shapes = {
        "attn_q": (BIG_DIM, BIG_DIM),
        "attn_k": (BIG_DIM, BIG_DIM // 4),
        "attn_v": (BIG_DIM, BIG_DIM // 4),
        "attn_output": (BIG_DIM, BIG_DIM),
        "ffn_gate": (BIG_DIM, BIG_FFN),
        "ffn_up": (BIG_DIM, BIG_FFN),
        "ffn_down": (BIG_FFN, BIG_DIM),
    }
    names = [("token_embd.weight", (BIG_DIM, BIG_VOCAB))]
    names += [
        (f"blk.{layer}.{name}.weight", shape) for layer in range(BIG_LAYERS) for name, shape in shapes.items()
    ]
    random = np.random.default_rng(1)
    with path.open("wb") as out:
        keys = [_text("general.architecture", "llama"), encoded("llama.block_count", BIG_LAYERS)]
        f16 = gguf.GGMLQuantizationType.F16
        write_header(out, keys, ((name, f16, shape) for name, shape in names), gguf.GGUF_DEFAULT_ALIGNMENT)
        for _, (columns, rows) in names:
            for start in range(0, rows, 2048):
                values = random.standard_normal((min(2048, rows - start), columns), np.float32) * 0.02
                out.write(values.astype(np.float16).tobytes())
            pad(out, gguf.GGUF_DEFAULT_ALIGNMENT)
    return path.stat().st_size


def _text(name: str, value: str) -> bytes:
    def text(raw: bytes) -> bytes:
        return len(raw).to_bytes(8, "little") + raw

    return text(name.encode()) + int(gguf.GGUFValueType.STRING).to_bytes(4, "little") + text(value.encode())


def quantize_big(folder: Path, level: str) -> tuple[int, int, float]:
    """(bytes before, peak bytes of memory, CPU seconds) of our writer in a process of its own."""
    source = folder / "big.gguf"
    size = write_big(source)
    code = (
        "import resource, sys; from pathlib import Path; from inference.gguf_tools.quantize import quantize_file;"
        "quantize_file(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]);"
        "used = resource.getrusage(resource.RUSAGE_SELF); print(used.ru_maxrss * 1024, used.ru_utime + used.ru_stime)"
    )
    command = [sys.executable, "-c", code, str(source), str(folder / "small.gguf"), level]
    done = subprocess.run(command, cwd=BASE_DIR, capture_output=True, text=True, check=True, env=os.environ)
    peak, cpu = done.stdout.split()
    return size, int(peak), float(cpu)


def run() -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="aic-big-") as folder:
        size, peak, cpu = quantize_big(Path(folder), "q4_K_M")
    yield Row(
        f"memory to quantize {size / 2**30:.2f} GiB to Q4_K_M, peak",
        peak / 2**20,
        "MiB",
        1024,
        f"{cpu:.0f} CPU-s",
    )
    with Product() as product:
        product.wait_until_healthy()
        for level in ("q8_0", "q4_K_M", "q3_K_M"):
            measures = quantize(product, level)["variant"]["measures"]
            yield Row(f"{level}: KL from F16", measures["quality"]["kl"]["value"] * 1e6, "1e-6 nats")
            yield Row(f"{level}: writing against F16", measures["speed"]["decode_tokens_per_s"]["ratio"], "x")


def tables() -> Iterator[str]:
    yield "| type | bytes | load | writing | reading | KL, 1e-6 nats per token | same top | right answers |"
    yield "|---|---|---|---|---|---|---|---|"
    with Product() as product:
        product.wait_until_healthy()
        for level in TYPES:
            yield _line(level, quantize(product, level))
        yield ""
        yield "| budget | uniform | Dynamic | KL of the two on unseen prompts, 1e-6 | difference, 95 % | made |"
        yield "|---|---|---|---|---|---|"
        for budget in BUDGETS:
            more = ("--budget", budget, "--target", f"{MODEL}:dynamic-{budget}", "--n-prompts", "40")
            found = quantize(product, "dynamic", *more)["variant"]["measures"]["dynamic"]
            test = found["test"]
            words = (
                "no change promised less" if test is None else f"{_micro(test['a'])} and {_micro(test['b'])}"
            )
            change = "" if test is None else f"[{_micro(test['interval'][0])}, {_micro(test['interval'][1])}]"
            yield (
                f"| {budget} | {found['uniform']}, {found['uniform_bytes']:,} | {found['dynamic_bytes']:,} | {words} | {change} "
                f"| {found['chosen']} |"
            )


def distilled() -> Iterator[str]:
    """Fewer layers three ways: dropped by measured loss, trained by the answers alone, trained on the distributions."""
    yield "| layers | pruned: KL, right | control | distilled: KL, right | its KL less the control's [95 %] | verdict |"
    yield "|---|---|---|---|---|---|"
    with Product() as product:
        product.wait_until_healthy()
        for n in STUDENTS:
            few = ("--n-pairs", "0", "--n-prompts", "12")  # the search makes and asks many files
            pruned = make(product, "prune", MODEL, "--layers", str(6 - n), *few)["variant"]["measures"]
            command = ("distill", MODEL, "--layers", str(n), "--steps", str(STEPS), "--n-pairs", "0")
            found = make(product, *command)["variant"]["measures"]["distillation"]["against"]
            kl, score = found["kl"], found["score"]
            low, high = kl["interval"]
            yield (
                f"| {n} of 6 | {pruned['quality']['kl']['value']:.3f}, {pruned['score']['n_right_candidate']} of "
                f"{pruned['score']['n']} | {kl['a']:.4f}, {score['n_right_reference']} of {score['n']} | {kl['b']:.4f}, "
                f"{score['n_right_candidate']} of {score['n']} | {kl['value']:+.4f} [{low:+.4f}, {high:+.4f}] | {found['why']} |"
            )


def _line(level: str, job: dict[str, Any]) -> str:
    variant = job["variant"]
    measures = variant["measures"]
    quality, speed, score = measures["quality"], measures["speed"], measures["score"]
    low, high = quality["kl"]["interval"]
    cells = [
        level,
        f"{variant['size_bytes']:,}",
        _times(speed["load_ms"]),
        _times(speed["decode_tokens_per_s"]),
        _times(speed["prefill_tokens_per_s"]),
        f"{_micro(quality['kl']['value'])} [{_micro(low)}, {_micro(high)}]",
        f"{quality['same_top']['value']:.1%}",
        f"{score['n_right_candidate']} of {score['n']} (F16 {score['n_right_reference']})",
    ]
    return f"| {' | '.join(cells)} |"


def _micro(value: float) -> str:
    return f"{value * 1e6:,.0f}"


def _times(ratio: dict[str, Any] | None) -> str:
    if not ratio:
        return "–"
    interval = "" if not ratio["interval"] else f" [{ratio['interval'][0]:.2f}, {ratio['interval'][1]:.2f}]"
    return f"{ratio['ratio']:.2f} x{interval}"


def _told(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        yield line


def main() -> None:
    if sys.argv[1:] == ["distilled"]:
        table = "\n".join(_told(distilled()))
        before, _, rest = DOCS.read_text().partition(MARK_DISTILLED)
        _, _, after = rest.partition(END_DISTILLED)
        DOCS.write_text(f"{before}{MARK_DISTILLED}\n{table}\n{END_DISTILLED}{after}")
        return
    table = "\n".join(_told(tables()))
    before = DOCS.read_text().partition(MARK)[0]
    DOCS.write_text(f"{before}{MARK}\n{table}\n")


if __name__ == "__main__":
    main()
