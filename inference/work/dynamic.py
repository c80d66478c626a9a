"""A type for each tensor by measured sensitivity.

The search stands on the best uniform type that fits the budget and asks, for each group of tensors, what one step up or
down costs at that very point: sums of losses measured one tensor at a time against the source predict badly (a few near
ties dominate a mean). The knapsack proposes, the proposal is measured whole, and the next round starts from it. Losses are
clipped, so that no single position decides. At the end the file is compared with the uniform one on prompts that the
search did not see; unless it is better beyond doubt, the uniform one is made."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as Type

from inference.gguf_tools.container import Header, read_header, tensor_bytes
from inference.gguf_tools.mixes import FILE_TYPES, fitting, is_quantized
from inference.gguf_tools.quantize import planned_bytes, planned_types, quantize_file
from inference.quality.allocation import Choice, NoAllocationError, allocate
from inference.quality.divergence import Top, kl
from inference.quality.paired import Difference, difference
from inference.work.messages import step
from inference.work.probe import probing, read_positions

# From few bits to many; a group moves along this ladder.
LADDER = (Type.Q2_K, Type.Q3_K, Type.IQ4_XS, Type.Q4_K, Type.Q5_K, Type.Q6_K, Type.Q8_0)
UNIFORM = ("Q2_K", "Q3_K_S", "Q3_K_M", "IQ4_XS", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K", "Q8_0")
N_ROUNDS = 2
CLIP_QUANTILE = 0.99
MAX_GROUPS = 48

Losses = list[npt.NDArray[np.float64]]  # of each prompt, its positions


@dataclass
class Search:
    """What was tried, for the record and the picture."""

    budget_bytes: int
    uniform: str
    n_probes: int = 0
    rounds: list[dict[str, Any]] = field(default_factory=list)
    sensitivity: dict[str, dict[str, float]] = field(
        default_factory=dict
    )  # group -> type -> clipped loss added


@dataclass(frozen=True)
class Outcome:
    """`types` override the mix of `level`; empty: the uniform file is the better one."""

    level: str
    types: dict[str, Type]
    record: dict[str, Any]


def groups_of(header: Header) -> dict[str, list[str]]:
    """Tensors that move together: one each for small models, else those of a kind in a stretch of layers."""
    names = [each.name for each in header.tensors if is_quantized(each.name, each.shape)]
    layers = [int(found[1]) for name in names if (found := re.match(r"blk\.(\d+)\.", name))]
    n_layers = max(layers, default=-1) + 1
    kinds = {re.sub(r"blk\.\d+\.", "", name) for name in names}
    n_stretches = (
        n_layers if len(names) <= MAX_GROUPS else max(min(MAX_GROUPS // max(len(kinds), 1), n_layers), 1)
    )
    result: dict[str, list[str]] = {}
    for name in names:
        found = re.match(r"blk\.(\d+)\.(.+)\.weight", name)
        if found is None:
            result[name] = [name]
            continue
        stretch = int(found[1]) * n_stretches // n_layers
        result.setdefault(f"{found[2]} {stretch + 1}/{n_stretches}", []).append(name)
    return result


class Dynamic:
    """`calibration` and `test`: prompts as the model sees them, none in both."""

    def __init__(
        self,
        file: Path,
        folder: Path,
        calibration: Sequence[str],
        test: Sequence[str],
        n_tokens: int,
        num_ctx: int,
    ) -> None:
        self.file, self.folder, self.num_ctx = file, folder, num_ctx
        self.header = read_header(file)
        self.groups = groups_of(self.header)
        self.shapes = {each.name: each.shape for each in self.header.tensors}
        with probing(file, num_ctx) as probe:
            self.sets = {}
            for name, prompts in (("calibration", calibration), ("test", test)):
                positions = read_positions(probe, prompts, n_tokens)
                self.sets[name] = [
                    (tokens, start, probe.distributions(tokens, start)) for tokens, start in positions
                ]
        self.n_probes, self.n_expected = 0, 1

    def losses(self, level: str, types: dict[str, Type], which: str) -> Losses:
        """KL of each position of a set of prompts, by a file that is made, asked and removed."""
        made = self.folder / "probe.gguf"
        quantize_file(self.file, made, level, types=types)
        try:
            found: Losses = []
            with probing(made, self.num_ctx) as probe:
                for tokens, start, reference in self.sets[which]:
                    told: list[Top | None] = probe.distributions(tokens, start)
                    pairs = zip(reference, told, strict=True)
                    found.append(np.array([kl(p, q) for p, q in pairs if p is not None and q is not None]))
        finally:
            made.unlink(missing_ok=True)
        self.n_probes += 1
        step("try types", min(self.n_probes, self.n_expected), self.n_expected, "files")
        return found

    def size(self, level: str, types: dict[str, Type]) -> int:
        return planned_bytes(self.header, planned_types(self.header, level, types))

    def search(self, budget_bytes: int) -> Outcome:
        """Raises NoAllocationError when not even the smallest uniform type fits."""
        uniform = self._best_uniform(budget_bytes)
        found = Search(budget_bytes, uniform)
        self.n_expected = 1 + N_ROUNDS * (1 + 2 * len(self.groups)) + 2
        types = self._all_types(uniform, {})
        base = self.losses(uniform, types, "calibration")
        clip = max(float(np.quantile(np.concatenate(base), CLIP_QUANTILE)), 1e-9)
        best, best_loss = types, _clipped(base, clip)
        for _ in range(N_ROUNDS):
            proposal = self._propose(uniform, best, best_loss, budget_bytes, clip, found)
            if proposal == best:
                break
            loss = _clipped(self.losses(uniform, proposal, "calibration"), clip)
            found.rounds.append({"before": best_loss, "after": loss, "n_bytes": self.size(uniform, proposal)})
            if loss >= best_loss:
                break
            best, best_loss = proposal, loss
        return self._judge(uniform, types, best, found)

    def _best_uniform(self, budget_bytes: int) -> str:
        fit = [name for name in UNIFORM if self.size(name, {}) <= budget_bytes]
        if not fit:
            smallest = min(self.size(name, {}) for name in UNIFORM)
            raise NoAllocationError(
                f"Not even {UNIFORM[0]} fits {budget_bytes:,} bytes; the smallest file has {smallest:,}."
            )
        return max(fit, key=lambda name: self.size(name, {}))

    def _all_types(self, level: str, types: dict[str, Type]) -> dict[str, Type]:
        planned = planned_types(self.header, level, types)
        return {name: planned[name] for members in self.groups.values() for name in members}

    def _propose(
        self,
        level: str,
        types: dict[str, Type],
        loss: float,
        budget_bytes: int,
        clip: float,
        found: Search,
    ) -> dict[str, Type]:
        """One step up or down for each group, measured around `types`; the knapsack joins them."""
        choices: dict[str, list[Choice]] = {}
        for group, members in self.groups.items():
            options = [Choice("same", 0, 0.0)]
            for way in ("down", "up"):
                moved = {**types, **{each: self._moved(each, types[each], way) for each in members}}
                added = self._bytes(moved, members) - self._bytes(types, members)
                if moved == types or not added:
                    continue
                change = _clipped(self.losses(level, moved, "calibration"), clip) - loss
                options.append(Choice(way, added, change))
                kinds = "/".join(sorted({moved[each].name for each in members}))
                found.sensitivity.setdefault(group, {})[kinds] = change
            choices[group] = options
        room = budget_bytes - self.size(level, types)
        moves = allocate(choices, max_bytes=room)
        proposal = dict(types)
        for group, way in moves.items():
            for each in self.groups[group]:
                proposal[each] = self._moved(each, types[each], way)
        return proposal

    def _moved(self, name: str, kind: Type, way: str) -> Type:
        if kind not in LADDER or way == "same":
            return kind
        place = LADDER.index(kind) + (1 if way == "up" else -1)
        return fitting(LADDER[place], self.shapes[name]) if 0 <= place < len(LADDER) else kind

    def _bytes(self, types: dict[str, Type], members: Sequence[str]) -> int:
        return sum(tensor_bytes(types[each], self.shapes[each]) for each in members)

    def _judge(self, level: str, uniform: dict[str, Type], best: dict[str, Type], found: Search) -> Outcome:
        """On the test prompts; the uniform file wins a tie."""
        verdict: Difference | None = None
        wins = False
        if best != uniform:
            before, after = self.losses(level, uniform, "test"), self.losses(level, best, "test")
            verdict = difference(
                [each.mean() for each in before if len(each)], [each.mean() for each in after if len(each)]
            )
            wins = verdict is not None and verdict.interval is not None and verdict.interval[1] < 0
        step("try types", self.n_expected, self.n_expected, "files")
        found.n_probes = self.n_probes
        if best == uniform:
            why = f"no change of {level} promised less loss within the budget"
        elif wins:
            why = f"less loss than {level} on prompts that the search did not see"
        else:
            why = f"not shown to be better than {level} on prompts that the search did not see"
        record = {
            **asdict(found),
            "chosen": "dynamic" if wins else level,
            "why": why,
            "test": None if verdict is None else asdict(verdict),
            "dynamic_bytes": self.size(level, best),
            "uniform_bytes": self.size(level, {}),
        }
        return Outcome(level, best if wins else {}, record)


def _clipped(losses: Losses, clip: float) -> float:
    return float(np.minimum(np.concatenate(losses), clip).mean())


def budget_bytes(header: Header, budget: str) -> int:
    """Of `q4_K_M` the size of that uniform file, of `1500MB` or `1.5GB` that size, of `40%` that share of the source.
    Raises ValueError with a sentence."""
    if budget.upper() in FILE_TYPES:
        return planned_bytes(header, planned_types(header, budget))
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%|[KMG]i?B)", budget.strip(), re.IGNORECASE)
    if found is None:
        raise ValueError(
            f"{budget!r} is no budget: give a type (q4_K_M), a size (1500MB, 1.5GiB) or a share (40%)."
        )
    number, unit = float(found[1]), found[2].upper()
    if unit == "%":
        return int(number / 100 * planned_bytes(header, {each.name: each.type for each in header.tensors}))
    powers = {"K": 1, "M": 2, "G": 3}
    return int(number * (1024 if "I" in unit else 1000) ** powers[unit[0]])
