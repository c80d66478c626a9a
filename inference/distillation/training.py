"""Training a student, by its teacher's distributions or, as the control, by the answers alone.

The loss of a student is that of Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015,
arXiv:1503.02531), section 2: with p the teacher's and q the student's distribution of the next token, both at temperature T
(softmax of logits / T), and y the token that stands there,

    loss = alpha T^2 KL(p_T || q_T) + (1 - alpha) (-ln q_1(y))

in nats per token, the mean over the answers' tokens. T^2 makes up for gradients that shrink with 1 / T^2. The control has
alpha = 0: the same start, the same prompts in the same order, the same steps, and no teacher."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from inference.distillation.examples import Example, batch_of, points
from inference.distillation.llama import Llama
from inference.distillation.settings import Distillation

WARM_UP = 0.1  # of the steps, at most 30
CLIP = 1.0


@dataclass(frozen=True)
class Point:
    """After `step` steps: the mean loss since the point before (None at the start), the same loss on held-out prompts, and
    their divergence from the teacher (KL at temperature 1, over the whole vocabulary); nats per token."""

    step: int
    train: float | None
    held_out: float
    kl: float


@dataclass(frozen=True)
class Progress:
    """After each step; `tokens_per_s`, `eta_s`: of this run."""

    step: int
    loss: float
    tokens_per_s: float
    eta_s: float


@dataclass
class Training:
    """One student. `save` is called at each point, after which nothing of it is lost."""

    student: Llama
    teacher: Llama
    examples: Sequence[Example]
    held_out: Sequence[Example]
    wanted: Distillation
    alpha: float
    tell: Callable[[Progress], None] = lambda progress: None
    save: Callable[["Training"], None] = lambda training: None
    done: int = 0  # steps
    points: list[Point] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.AdamW(
            self.student.trained, lr=self.wanted.learning_rate, betas=(0.9, 0.98), weight_decay=0.0
        )

    def run(self) -> None:
        """From `done` to the end."""
        ends, started, n_tokens, first = set(points(self.wanted.steps)), time.monotonic(), 0, self.done
        if not self.points:
            self.points.append(self._point(None))
        losses: list[float] = []
        while self.done < self.wanted.steps:
            batch = batch_of(self.examples, self.done, self.wanted.batch, self.wanted.seed)
            losses.append(self._step(batch))
            self.done += 1
            n_tokens += sum(len(each.tokens) for each in batch)
            took = max(time.monotonic() - started, 1e-9)
            left = took / (self.done - first) * (self.wanted.steps - self.done)
            self.tell(Progress(self.done, losses[-1], n_tokens / took, left))
            if self.done in ends:
                self.points.append(self._point(sum(losses) / len(losses)))
                losses.clear()
                self.save(self)

    def _step(self, batch: Sequence[Example]) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self.wanted.learning_rate * rate_at(self.done, self.wanted.steps)
        loss = self._losses(batch).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.student.trained, CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss.item())

    def _losses(self, batch: Sequence[Example]) -> Tensor:
        """Of each token of the answers."""
        ids, wanted, labels = padded(batch)
        logits = self.student.logits(ids, wanted)
        if self.alpha == 0:
            return F.cross_entropy(logits, labels, reduction="none")
        with torch.no_grad():
            reference = self.teacher.logits(ids, wanted)
        return mixed_loss(reference, logits, labels, self.alpha, self.wanted.temperature)

    def _point(self, train: float | None) -> Point:
        losses, divergences = [], []
        for start in range(0, len(self.held_out), self.wanted.batch):
            batch = self.held_out[start : start + self.wanted.batch]
            ids, wanted, labels = padded(batch)
            with torch.no_grad():
                reference, logits = (each.logits(ids, wanted) for each in (self.teacher, self.student))
            losses.append(mixed_loss(reference, logits, labels, self.alpha, self.wanted.temperature))
            divergences.append(divergence(reference, logits, 1.0))
        return Point(self.done, train, float(torch.cat(losses).mean()), float(torch.cat(divergences).mean()))


def mixed_loss(reference: Tensor, logits: Tensor, labels: Tensor, alpha: float, temperature: float) -> Tensor:
    """(n,) from logits (n, vocab) of teacher and student and the tokens (n,) that stand there; see the module."""
    soft = divergence(reference, logits, temperature)
    hard = F.cross_entropy(logits, labels, reduction="none")
    return alpha * temperature**2 * soft + (1 - alpha) * hard


def divergence(reference: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """KL (n,) of the student from the teacher, both at that temperature, in nats."""
    p, q = (F.log_softmax(each / temperature, -1) for each in (reference, logits))
    return (p.exp() * (p - q)).sum(-1)


def padded(batch: Sequence[Example]) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens (batch, longest), where an answer's token follows (the same shape, bool), and these tokens (n,)."""
    longest = max(len(each.tokens) for each in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    wanted = torch.zeros(len(batch), longest, dtype=torch.bool)
    for row, each in enumerate(batch):
        ids[row, : len(each.tokens)] = torch.tensor(each.tokens)
        wanted[row, each.start - 1 : len(each.tokens) - 1] = True
    return ids, wanted, torch.cat([torch.tensor(each.tokens[each.start :]) for each in batch])


def rate_at(step: int, n_steps: int) -> float:
    """Share of the highest learning rate: up over the first steps, then down in a straight line to 1 %."""
    warm_up = max(min(round(WARM_UP * n_steps), 30), 1)
    return min((step + 1) / warm_up, 0.01 + 0.99 * (1 - step / n_steps))


def be_repeatable(n_threads: int) -> None:
    """The same numbers from the same seeds, on the same machine with as many threads."""
    torch.manual_seed(0)
    torch.set_num_threads(n_threads)
    torch.use_deterministic_algorithms(True)
