"""What is to be done with each model: which variant answers for it, and what is proposed. Pure: no Django, no engine.

docs/profiles.md has the rules."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from inference import levels
from inference.levels import Form
from tuning.fields import number

SOURCES = frozenset({"F32", "F16", "BF16"})  # what a variant is quantized from
Kind = Literal["quantize", "prune", "measure", "use", "archive"]
State = Literal["so", "fits", "over", "unmeasured", "missing", "impossible"]
GB, MIB = 10**9, 2**20


@dataclass(frozen=True)
class Wish:
    """What a profile, or config.yaml without one, asks of models. Empty or None: nothing. `by` names who asks."""

    by: str
    max_loss: float
    level: str = ""
    every: bool = False  # of all models; else of those above `large_bytes`, and of loaded ones under pressure
    large_bytes: float = 0
    prunes: bool = False
    prune_above_bytes: float = 0
    packing: str = ""
    pack_above_bytes: float = 0
    cold_after: timedelta = timedelta(days=7)

    @property
    def is_for_all(self) -> bool:
        """Whether a profile asks a variant of every model."""
        return self.every or (self.prunes and not self.prune_above_bytes)


@dataclass(frozen=True)
class Model:
    """A model as its engine lists it. `loaded_bytes` None: not loaded; `used_at` None: never, as far as is known."""

    engine_kind: str
    name: str
    digest: str
    quantization: str
    size_bytes: int | None
    writes: bool = True  # it completes; one that only embeds can't be measured
    loaded_bytes: int | None = None
    used_at: datetime | None = None
    modified_at: datetime | None = None
    is_archived: bool = False
    is_made: bool = False  # a variant that was made here: it is no source of its own

    @property
    def takes_bytes(self) -> int:
        return self.loaded_bytes or self.size_bytes or 0


@dataclass(frozen=True)
class Step:
    """One thing to be done with `model`: `what` is the type, the variant or the packing."""

    kind: Kind
    model: str
    what: str
    reason: str
    expected_bytes: int | None = None


@dataclass(frozen=True)
class Line:
    """One model: `target` answers for it ("" itself), `words` say why."""

    model: Model
    state: State
    target: str = ""
    words: str = ""
    steps: Sequence[Step] = field(default_factory=tuple)
    every: bool = False  # asked of all models: what fits is used without a question


Forms = Mapping[
    tuple[str, str], Sequence[Form]
]  # engine and name of the source -> its variants that are there


def lines(models: Iterable[Model], forms: Forms, wish: Wish, *, pressed: str, now: datetime) -> list[Line]:
    """`pressed`: why memory counts as short; "" while it doesn't."""
    return [_line(each, forms, wish, pressed, now) for each in models]


def _line(model: Model, forms: Forms, wish: Wish, pressed: str, now: datetime) -> Line:
    packed = _pack(model, wish, now)
    if model.is_made or not model.writes:
        return Line(model, "so", words="made here" if model.is_made else "only embeds", steps=packed)
    current, states, words, steps = model.name, [], [], []
    stages = []
    if why := _prune_reason(model, wish):
        stages.append(("prune", why))
    # What nobody asks for is better packed than made smaller.
    if (why := _level_reason(model, wish, pressed)) and (wish.every or not packed):
        stages.append(("quantize", why))
    for kind, why in stages:
        found = forms.get((model.engine_kind, current), ())
        if kind == "prune":
            make = Step("prune", current, "fewer layers", why)
            state, form, said, step = _stage(levels.pruned(found), wish, why, make)
        else:
            state, form, said, step = _quantized(model, current, found, wish, why)
        states.append(state)
        words.append(said)
        if form is not None:
            current = form.name
        if step is not None:
            steps.append(step)
    target = current if current != model.name else ""
    state = "fits" if target else next((each for each in states if each != "so"), "so")
    return Line(model, state, target, "; ".join(words), (*steps, *packed), wish.is_for_all)


Stage = tuple[State, Form | None, str, Step | None]


def _quantized(model: Model, current: str, found: Sequence[Form], wish: Wish, why: str) -> Stage:
    """`current`: the model, or its form with fewer layers, which is of the same type."""
    label = levels.LABELS[wish.level]
    if levels.is_of(wish.level, model.quantization):
        return "so", None, f"is {label} itself", None
    fitting = levels.of_level(wish.level, found)
    if not fitting and model.quantization.upper() not in {"", *SOURCES}:
        words = f"is {model.quantization} already: {label} is made from an F16, BF16 or F32 form"
        return "impossible", None, words, None
    share, what = levels.share_of(wish.level, model.quantization), levels.MAKES[wish.level]
    expected = None if share is None or model.size_bytes is None else int(share * model.size_bytes)
    return _stage(fitting, wish, why, Step("quantize", current, what, why, expected))


def _stage(fitting: Sequence[Form], wish: Wish, why: str, make: Step) -> Stage:
    """The best variant that may be used, else what is to be done about it."""
    measured = [each for each in fitting if each.loss is not None]
    for each in measured:
        assert each.loss is not None
        if each.loss <= wish.max_loss:
            return "fits", each, f"{each.name} loses {each.loss:.2g} nats", None
    if measured:
        words = f"{measured[0].name} loses {measured[0].loss:.2g} nats, more than {number(wish.max_loss)}"
        return "over", None, words, None
    if fitting:
        name = fitting[0].name
        return (
            "unmeasured",
            None,
            f"what {name} loses was not measured",
            Step("measure", make.model, name, why),
        )
    return "missing", None, "no such form of it yet", make


def _level_reason(model: Model, wish: Wish, pressed: str) -> str:
    """Why the level is asked of this model; "" when it is not."""
    if not wish.level:
        return ""
    label = levels.LABELS[wish.level]
    if wish.every:
        return f"{wish.by} says {label}"
    if model.takes_bytes > wish.large_bytes:
        taken = "of memory" if model.loaded_bytes else "on the disk"
        threshold = f"memory_threshold_mb is {wish.large_bytes / MIB:.0f}"
        return f"it takes {model.takes_bytes / MIB:.0f} MiB {taken}, and {threshold}"
    if pressed and model.loaded_bytes:
        return f"{pressed}, and it takes {model.loaded_bytes / MIB:.0f} MiB of memory"
    return ""


def _prune_reason(model: Model, wish: Wish) -> str:
    if not wish.prunes or (model.size_bytes or 0) <= wish.prune_above_bytes:
        return ""
    if not wish.prune_above_bytes:
        return f"{wish.by} says pruning"
    return f"it has {_gb(model.size_bytes)}, and size_threshold_gb is {wish.prune_above_bytes / GB:g}"


def _pack(model: Model, wish: Wish, now: datetime) -> tuple[Step, ...]:
    """A cold model: nobody asked for it, nothing was done to it, and it is not packed yet."""
    if not wish.packing or model.is_archived or model.loaded_bytes is not None:
        return ()
    times = [each for each in (model.used_at, model.modified_at) if each is not None]
    if model.modified_at is None or now - max(times) < wish.cold_after:
        return ()
    if (model.size_bytes or 0) <= wish.pack_above_bytes:
        return ()
    days = f"nobody asked for it in {(now - max(times)).days} days"
    if wish.pack_above_bytes:
        days += f", and it has {_gb(model.size_bytes)}"
    return (Step("archive", model.name, wish.packing, f"{days}; {wish.by} says {wish.packing}"),)


def _gb(n_bytes: int | None) -> str:
    return f"{(n_bytes or 0) / GB:.1f} GB"
