"""Which layers a model can do without, by measured loss.

Greedy: each layer that is left is dropped alone and the file asked at the same positions; the one with the least loss goes,
and the rest is measured anew, for what a layer is worth depends on those that are left. (How little a layer changes what
passes through it, the block influence, is cheaper to measure and picks wrong ones.) At the end the choice stands on prompts
that the search did not see, beside controls of as many layers: some drawn at random, and the last ones but one, which are
what one drops without measuring."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.gguf_tools.container import read_header
from inference.gguf_tools.prune import n_layers, prune_file
from inference.quality.divergence import Top, kl
from inference.quality.paired import Difference, difference
from inference.work.messages import WorkError, step
from inference.work.probe import probing, read_positions

RANDOM = "random"
N_RANDOM = 3  # sets of layers drawn by chance
SEED = 20260101

Losses = list[npt.NDArray[np.float64]]  # of each prompt, its positions


@dataclass(frozen=True)
class Round:
    """Loss (mean KL, nats per token) of each layer when it goes too, on the prompts of the search."""

    losses: dict[int, float]
    dropped: int | None  # None: not even the best one kept to the limit


@dataclass(frozen=True)
class Control:
    """As many layers, chosen without measuring. `against`: the choice's loss less this one's, mean over prompts; None where
    they are the same layers."""

    name: str
    layers: tuple[int, ...]
    loss: float
    against: Difference | None


@dataclass(frozen=True)
class Pruned:
    """`dropped` in the order in which they went; layers by their number in the source, from 0. `loss`: on prompts that the
    search did not see, with the count of its positions."""

    n_layers: int
    max_loss: float | None
    dropped: tuple[int, ...]
    rounds: tuple[Round, ...]
    loss: float
    n_prompts: int
    n_positions: int
    controls: tuple[Control, ...]
    chance: Difference | None  # the choice's loss less the mean of the random controls'
    n_probes: int
    why: str

    def record(self) -> dict[str, Any]:
        return asdict(self)


class Pruning:
    """`calibration` and `test`: prompts as the model sees them, none in both. Raises PruneError (see prune.n_layers)."""

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
        self.n_layers = n_layers(read_header(file))
        self.n_probes, self.n_expected = 0, 1
        with probing(file, num_ctx) as probe:
            self.sets: dict[str, list[tuple[list[int], int, list[Top | None]]]] = {}
            for name, prompts in (("calibration", calibration), ("test", test)):
                positions = read_positions(probe, prompts, n_tokens)
                self.sets[name] = [
                    (tokens, start, probe.distributions(tokens, start)) for tokens, start in positions
                ]

    def losses(self, dropped: Collection[int], which: str) -> Losses:
        """KL of each position of a set of prompts, by a file that is made, asked and removed."""
        made = self.folder / "probe.gguf"
        prune_file(self.file, made, dropped)
        try:
            found: Losses = []
            with probing(made, self.num_ctx) as probe:
                for tokens, start, reference in self.sets[which]:
                    pairs = zip(reference, probe.distributions(tokens, start), strict=True)
                    found.append(np.array([kl(p, q) for p, q in pairs if p is not None and q is not None]))
        finally:
            made.unlink(missing_ok=True)
        if not sum(map(len, found)):
            raise WorkError("The model says nothing to the prompts, so that no loss can be measured.")
        self.n_probes += 1
        step("try layers", min(self.n_probes, self.n_expected), self.n_expected, "files")
        return found

    def search(self, *, n_drop: int | None, max_loss: float | None) -> Pruned:
        """Drop `n_drop` layers, or as many as keep to `max_loss` (mean KL, nats per token); with both, whichever ends first.

        Raises WorkError when not even one layer keeps to it, PruneError for more layers than there are."""
        most = self.n_layers - 1 if n_drop is None else n_drop
        self.n_expected = sum(self.n_layers - done for done in range(most)) + 1 + N_RANDOM + 1
        rounds: list[Round] = []
        dropped: list[int] = []
        while len(dropped) < most:
            found = {
                layer: _mean(self.losses([*dropped, layer], "calibration"))
                for layer in range(self.n_layers)
                if layer not in dropped
            }
            best = min(found, key=lambda layer: (found[layer], layer))
            over = max_loss is not None and found[best] > max_loss
            if over and not dropped:
                raise WorkError(
                    f"Nothing was dropped: even without layer {best}, which costs least of {self.n_layers}, the KL is "
                    f"{found[best]:.3g} nats per token, above {max_loss:g}."
                )
            rounds.append(Round(found, None if over else best))
            if over:
                break
            dropped.append(best)
        return self._judge(dropped, rounds, max_loss)

    def _judge(self, dropped: list[int], rounds: list[Round], max_loss: float | None) -> Pruned:
        """On the test prompts. Where the loss is limited it has to keep to that here too: the last to go comes back first."""
        chosen, n_back = self.losses(dropped, "test"), 0
        while max_loss is not None and _mean(chosen) > max_loss:
            if len(dropped) == 1:
                raise WorkError(
                    f"Nothing was dropped: without layer {dropped[0]} the KL is {_mean(chosen):.3g} nats per token on prompts "
                    f"that the search did not see, above {max_loss:g}."
                )
            dropped, n_back = dropped[:-1], n_back + 1
            chosen = self.losses(dropped, "test")
        controls, at_random = [], []
        for name, layers in controls_for(dropped, self.n_layers):
            losses = chosen if set(layers) == set(dropped) else self.losses(layers, "test")
            against = None if losses is chosen else _compared(losses, chosen)
            controls.append(Control(name, layers, _mean(losses), against))
            if name == RANDOM:
                at_random.append(losses)
        chance = _compared(by_chance(at_random), chosen) if at_random else None
        step("try layers", self.n_expected, self.n_expected, "files")
        return Pruned(
            self.n_layers,
            max_loss,
            tuple(dropped),
            tuple(rounds),
            _mean(chosen),
            sum(1 for each in chosen if len(each)),
            sum(map(len, chosen)),
            tuple(controls),
            chance,
            self.n_probes,
            verdict(controls, chance, n_back),
        )


def controls_for(dropped: Collection[int], total: int) -> list[tuple[str, tuple[int, ...]]]:
    """Name and layers of each control, as many layers as `dropped`. The random ones differ from it and from each other; of a
    small model there may be fewer than N_RANDOM."""
    n = len(dropped)
    first = max(total - 1 - n, 0)
    found = [("the last but one", tuple(range(first, first + n)))]
    random, seen = np.random.default_rng(SEED), {frozenset(dropped), frozenset(found[0][1])}
    if comb(total, n) <= 1000:
        others = [each for each in combinations(range(total), n) if frozenset(each) not in seen]
        drawn = random.permutation(len(others))[:N_RANDOM]
        return [*found, *((RANDOM, others[place]) for place in drawn)]
    while len(found) <= N_RANDOM:
        layers = tuple(sorted(int(each) for each in random.choice(total, n, replace=False)))
        if frozenset(layers) not in seen:
            seen.add(frozenset(layers))
            found.append((RANDOM, layers))
    return found


def by_chance(at_random: Sequence[Losses]) -> Losses:
    """Of each prompt the mean loss of each random control. Not position by position: where one of them most likely says half
    a character, nothing is told of it alone."""
    return [
        np.array([each.mean() for each in prompt if len(each)]) for prompt in zip(*at_random, strict=True)
    ]


def _compared(a: Losses, b: Losses) -> Difference | None:
    pairs = [(x.mean(), y.mean()) for x, y in zip(a, b, strict=True) if len(x) and len(y)]
    return difference([x for x, _ in pairs], [y for _, y in pairs])


def verdict(controls: Sequence[Control], chance: Difference | None, n_back: int) -> str:
    """What the controls say, in a sentence."""
    others = [each for each in controls if each.against is not None]
    beaten = [
        each for each in others if each.against and each.against.interval and each.against.interval[1] < 0
    ]
    worse = [
        each for each in others if each.against and each.against.interval and each.against.interval[0] > 0
    ]
    if chance is not None and chance.interval is not None and chance.interval[1] < 0:
        text = "less loss than random layers cost on average"
    else:
        text = "not shown to be better than random layers"
    text += f"; beyond doubt less than {len(beaten)} of the {len(others)} other choices"
    if worse:
        text += f", more than {len(worse)}"
    if len(others) < len(controls):
        text += "; the last but one is the same choice"
    if n_back:
        text += f"; {n_back} more kept to the loss in the search only, and stayed"
    return text


def _mean(losses: Losses) -> float:
    return float(np.concatenate(losses).mean())
