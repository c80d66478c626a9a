"""What each type costs: the sample model in every type, Dynamic at three budgets, fewer layers pruned and distilled, and a file
of 2 GB quantized.

`python -m tests.bench.variants types` writes the table of the types into docs/variants.md (with names behind it only their
lines, to go on where it was stopped), `dynamic` that of Dynamic against uniform, `importance` that of types with and without an
importance matrix, `distilled` that of fewer layers (needs PyTorch); as a part of `make bench` only the figures are shown."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from inference.gguf_tools.container import encoded, pad, write_header
from inference.gguf_tools.mixes import FILE_TYPES, NEED_IMPORTANCE
from inference.quality.labelled import HOUSEHOLD, parse
from inference.quality.paired import ratio
from inference.sample_model.evaluate import FILE
from inference.work.dynamic import Dynamic, Losses
from inference.work.importance import find_importance
from inference.work.plan import Calibration, JobPlan
from inference.work.prompts import ChatTemplate
from tests.bench import Row
from tests.product import BASE_DIR, Product

MODEL = "aicleaner-sample"
TYPES = tuple(name for name in FILE_TYPES if name not in {"F32", "F16", "BF16", *NEED_IMPORTANCE})
N_JUDGING = 100  # prompts
WEIGHED = ("Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K", "IQ3_S", "IQ3_XXS", "IQ2_M", "IQ2_S", "IQ2_XXS")
BUDGETS = ("q3_K_M", "q4_K_M", "q5_K_M")
BIG_LAYERS, BIG_DIM, BIG_FFN, BIG_VOCAB = 22, 2048, 8192, 32_000
DOCS = BASE_DIR / "docs" / "variants.md"
MARK, END = "<!-- made by python -m tests.bench.variants {} -->", "<!-- end -->"
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
        keys = [encoded("general.architecture", "llama"), encoded("llama.block_count", BIG_LAYERS)]
        f16 = gguf.GGMLQuantizationType.F16
        write_header(out, keys, ((name, f16, shape) for name, shape in names), gguf.GGUF_DEFAULT_ALIGNMENT)
        for _, (columns, rows) in names:
            for start in range(0, rows, 2048):
                values = random.standard_normal((min(2048, rows - start), columns), np.float32) * 0.02
                out.write(values.astype(np.float16).tobytes())
            pad(out, gguf.GGUF_DEFAULT_ALIGNMENT)
    return path.stat().st_size


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
        weighed = quantize(product, "q3_K_M", "--importance", "collect")["variant"]["measures"]
        yield Row(
            "q3_K_M: KL from F16 with an importance matrix",
            weighed["quality"]["kl"]["value"] * 1e6,
            "1e-6 nats",
            measures["quality"]["kl"]["value"] * 1e6,
            "below what it is without",
        )


def types(*names: str) -> Iterator[str]:
    if not names:
        yield "| type | bytes | load | writing | reading | KL, 1e-6 nats per token | same top | right answers |"
        yield "|---|---|---|---|---|---|---|---|"
    with Product() as product:
        product.wait_until_healthy()
        for level in names or TYPES:
            yield _line(level, quantize(product, level))


def dynamic() -> Iterator[str]:
    yield "| budget | uniform | Dynamic | KL of the two on unseen prompts, 1e-6 | difference, 95 % | made |"
    yield "|---|---|---|---|---|---|"
    with Product() as product:
        product.wait_until_healthy()
        for budget in BUDGETS:
            more = ("--budget", budget, "--target", f"{MODEL}:dynamic-{budget}", "--n-prompts", "20")
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


def importance_table() -> Iterator[str]:
    """Asked directly: the same positions of the same prompts, none of which the matrix was collected from."""
    labelled = tuple(parse(HOUSEHOLD.read_text()))
    with tempfile.TemporaryDirectory(prefix="aic-weighed-") as name:
        folder = Path(name)
        plan = JobPlan(
            kind="quantize",
            engine_url="",
            engine_kind="",
            source=MODEL,
            target="",
            folder=folder,
            importance=folder / "kept.gguf",
            calibration=Calibration(name="household", labelled=labelled),
            labelled=labelled,
        )
        importance = find_importance(plan, FILE)
        template = ChatTemplate(FILE)
        judging = [template.render(each.prompt) for each in labelled[:N_JUDGING]]
        search = Dynamic(FILE, folder, [], judging, plan.measures.n_tokens, 512)
        yield "| type | bytes | KL without, 1e-6 nats per token | with | with against without, of each prompt |"
        yield "|---|---|---|---|---|"
        for level in WEIGHED:
            search.importance = None
            plain = None if level in NEED_IMPORTANCE else search.losses(level, {}, "test")
            search.importance = importance
            weighed = search.losses(level, {}, "test")
            cells = [level, f"{search.size(level, {}):,}", _loss(plain), _loss(weighed)]
            found = plain and ratio([each.mean() for each in plain], [each.mean() for each in weighed])
            cells.append(_times(asdict(found)) if found else "–")
            yield f"| {' | '.join(cells)} |"


def _loss(losses: Losses | None) -> str:
    if losses is None:
        return "garbage: refused"
    return _micro(float(np.concatenate(losses).mean()))


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


def main() -> None:
    part, *names = sys.argv[1:]
    parts = {"types": types, "dynamic": dynamic, "importance": importance_table, "distilled": distilled}
    mark = MARK.format(part)
    before, _, after = DOCS.read_text().partition(f"{mark}\n")
    old, _, rest = after.partition(END)
    lines, out = [], sys.stdout
    with redirect_stdout(sys.stderr):  # the steps of the work
        for line in parts[part](*names):
            lines.append(line + "\n")
            out.write(line + "\n")
            out.flush()
    DOCS.write_text(before + f"{mark}\n" + (old if names else "") + "".join(lines) + END + rest)


if __name__ == "__main__":
    main()
