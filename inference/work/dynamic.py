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
from inference.gguf_tools.importance import Importance
from inference.gguf_tools.mixes import fitting, is_quantized
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
    """What was tried, for the record and the picture. One of the budgets is None."""

    budget_bytes: int | None
    max_loss: float | None
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
        importance: Importance | None = None,
    ) -> None:
        self.file, self.folder, self.num_ctx, self.importance = file, folder, num_ctx, importance
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
        quantize_file(self.file, made, level, types=types, importance=self.importance)
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
        return planned_bytes(self.header, self._planned(level, types))

    def _planned(self, level: str, types: dict[str, Type]) -> dict[str, Type]:
        return planned_types(self.header, level, types, self.importance)

    def search(self, *, budget_bytes: int | None = None, max_loss: float | None = None) -> Outcome:
        """With a budget of bytes the least loss that fits; with one of loss (mean KL, nats per token) the smallest file that
        keeps to it. Raises NoAllocationError when no uniform type does."""
        self.n_expected = 1 + N_ROUNDS * (1 + 2 * len(self.groups)) + 2
        if budget_bytes is not None:
            uniform = self._best_uniform(budget_bytes)
            base = self.losses(uniform, {}, "calibration")
        else:
            assert max_loss is not None
            uniform, base = self._smallest_uniform(max_loss)
        found = Search(budget_bytes, max_loss, uniform)
        clip = max(float(np.quantile(np.concatenate(base), CLIP_QUANTILE)), 1e-9)
        types = self._all_types(uniform, {})
        best, best_loss = types, _clipped(base, clip)
        for _ in range(N_ROUNDS):
            proposal = self._propose(uniform, best, best_loss, clip, found)
            if proposal == best:
                break
            losses = self.losses(uniform, proposal, "calibration")
            loss, n_bytes = _clipped(losses, clip), self.size(uniform, proposal)
            found.rounds.append({"before": best_loss, "after": loss, "n_bytes": n_bytes})
            smaller = n_bytes < self.size(uniform, best)
            if not (loss < best_loss if max_loss is None else smaller and _mean(losses) <= max_loss):
                break
            best, best_loss = proposal, loss
        return self._judge(uniform, types, best, found)

    def _smallest_uniform(self, max_loss: float) -> tuple[str, Losses]:
        for name in sorted(UNIFORM, key=lambda name: self.size(name, {})):
            losses = self.losses(name, {}, "calibration")
            if _mean(losses) <= max_loss:
                return name, losses
        raise NoAllocationError(f"No type keeps to a loss of {max_loss:g}: {name} has {_mean(losses):.2g}.")

    def _best_uniform(self, budget_bytes: int) -> str:
        fit = [name for name in UNIFORM if self.size(name, {}) <= budget_bytes]
        if not fit:
            smallest = min(self.size(name, {}) for name in UNIFORM)
            raise NoAllocationError(
                f"Not even {UNIFORM[0]} fits {budget_bytes:,} bytes; the smallest file has {smallest:,}."
            )
        return max(fit, key=lambda name: self.size(name, {}))

    def _all_types(self, level: str, types: dict[str, Type]) -> dict[str, Type]:
        planned = self._planned(level, types)
        return {name: planned[name] for members in self.groups.values() for name in members}

    def _propose(
        self,
        level: str,
        types: dict[str, Type],
        loss: float,
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
        if found.budget_bytes is not None:
            moves = allocate(choices, max_bytes=found.budget_bytes - self.size(level, types))
        else:
            assert found.max_loss is not None
            moves = allocate(choices, max_loss=max(found.max_loss - loss, 0.0))
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
        """On the test prompts; the uniform file wins a tie. Where the loss is the budget, the smaller file has to keep to it
        there too."""
        verdict: Difference | None = None
        wins = False
        if best != uniform:
            before, after = self.losses(level, uniform, "test"), self.losses(level, best, "test")
            verdict = difference(
                [each.mean() for each in before if len(each)], [each.mean() for each in after if len(each)]
            )
            if found.max_loss is not None:
                wins = _mean(after) <= found.max_loss and self.size(level, best) < self.size(level, uniform)
            else:
                wins = verdict is not None and verdict.interval is not None and verdict.interval[1] < 0
        step("try types", self.n_expected, self.n_expected, "files")
        found.n_probes = self.n_probes
        if best == uniform:
            why = f"no change of {level} promised more within the budget"
        elif found.max_loss is not None:
            kept = "keeps" if wins else "does not keep"
            why = f"smaller than {level}, and {kept} to the loss on prompts that the search did not see"
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


def _mean(losses: Losses) -> float:
    return float(np.concatenate(losses).mean())
