"""What a search of layers tried and found, in bars and words."""

from dataclasses import dataclass
from typing import Any

from inference.models import Variant


@dataclass(frozen=True)
class Bar:
    """`share` of the largest loss of the round, in percent, as CSS writes it."""

    layer: int
    loss: str
    share: str
    is_dropped: bool


@dataclass(frozen=True)
class Round:
    number: int
    title: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Choice:
    """Layers that went and their loss on other prompts; `change`: the choice's loss less this one's."""

    name: str
    layers: str
    loss: str
    change: str
    verdict: str = ""


@dataclass(frozen=True)
class PruningRecord:
    summary: str
    tested: str
    rounds: tuple[Round, ...]
    choices: tuple[Choice, ...]
    why: str


def pruning_of(variant: Variant) -> PruningRecord | None:
    """None of a variant that was not pruned."""
    found = variant.measure("pruning")
    if not found:
        return None
    dropped = found["dropped"]
    many = "s" if len(dropped) > 1 else ""
    return PruningRecord(
        f"Layer{many} {_listed(dropped)} of {found['n_layers']} dropped (the first is 0), chosen by the loss of "
        f"{found['n_probes']} files that were made and asked.",
        f"{found['n_positions']:,} positions of {found['n_prompts']:,} prompts that the search did not see",
        tuple(_round(number, found["rounds"]) for number in range(len(found["rounds"]))),
        (
            Choice("measured", _listed(dropped), f"{found['loss']:.3g}", "", "chosen"),
            *(_control(each) for each in found["controls"]),
            *_chance(found["chance"]),
        ),
        f"{found['why'][:1].upper()}{found['why'][1:]}.",
    )


def _round(number: int, rounds: list[dict[str, Any]]) -> Round:
    """The layers in order, as they stand in the source."""
    losses, dropped = rounds[number]["losses"], rounds[number]["dropped"]
    largest = max(losses.values()) or 1.0
    bars = tuple(
        Bar(int(layer), f"{loss:.3g}", f"{100 * loss / largest:.1f}", int(layer) == dropped)
        for layer, loss in sorted(losses.items(), key=lambda pair: int(pair[0]))
    )
    gone = [each["dropped"] for each in rounds[:number]]
    title = f"Without {'layer' if len(gone) == 1 else 'layers'} {_listed(gone)} and" if gone else "Without"
    return Round(number + 1, f"{title} one more" if gone else f"{title} one layer", bars)


def _control(control: dict[str, Any]) -> Choice:
    name, layers, loss = control["name"], _listed(control["layers"]), f"{control['loss']:.3g}"
    if control["against"] is None:
        return Choice(name, layers, loss, "the same layers")
    return Choice(name, layers, loss, *_change(control["against"]))


def _chance(chance: dict[str, Any] | None) -> list[Choice]:
    if chance is None:
        return []
    return [Choice("random, on average", "", f"{chance['a']:.3g}", *_change(chance))]


def _change(difference: dict[str, Any]) -> tuple[str, str]:
    """In words, and whether it is good or bad beyond doubt."""
    text = f"{difference['value']:+.3g}"
    if not difference["interval"]:
        return text, ""
    low, high = difference["interval"]
    return f"{text} [{low:+.3g}, {high:+.3g}]", "good" if high < 0 else "bad" if low > 0 else ""


def _listed(layers: list[int]) -> str:
    *first, last = map(str, layers)
    return f"{', '.join(first)} and {last}" if first else last


def as_lines(record: PruningRecord) -> list[str]:
    """For the terminal."""
    rows = [f"  {each.name:<18} {each.layers:>14} {each.loss:>14}  {each.change}" for each in record.choices]
    return [f"  {record.summary}", f"  KL on {record.tested}; the choice less the control:", *rows]
