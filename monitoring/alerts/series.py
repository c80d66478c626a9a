"""Names of series, what selects them, and the fingerprint of a rule on one of them. No Django in here."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

_MATCHER = re.compile(r'\s*([A-Za-z_]\w*)\s*(=~|!~|!=|=)\s*(?:"([^"]*)"|([^",]*?))\s*(?:,|$)')
_METRIC = re.compile(r"[a-z_][a-z0-9_]*")
MAX_PATTERN, MAX_IN_A_ROW = 200, 4
UNITS = (
    ("_percent", "%"),
    ("_celsius", "°C"),
    ("_bytes_per_s", "B/s"),
    ("_per_s", "/s"),
    ("_bytes", "B"),
    ("_ms", "ms"),
    ("_mhz", "MHz"),
    ("_age_s", "s"),
    ("_lag_s", "s"),
    ("_w", "W"),
)


class SelectorError(ValueError):
    """The text is no selector or matcher; the message says what is wrong with it."""


@dataclass(frozen=True)
class Matcher:
    """`label = value`, or `!=`, `=~` (regular expression over the whole value), `!~`. A label that is missing is ''."""

    label: str
    operator: str
    value: str

    def fits(self, labels: Mapping[str, str]) -> bool:
        found = labels.get(self.label, "")
        if self.operator in ("=", "!="):
            return (found == self.value) is (self.operator == "=")
        return (re.fullmatch(self.value, found) is not None) is (self.operator == "=~")

    def __str__(self) -> str:
        return f'{self.label}{self.operator}"{self.value}"'


@dataclass(frozen=True)
class Selector:
    """A metric and what its labels must be, its host among them."""

    metric: str
    matchers: tuple[Matcher, ...] = ()

    def fits(self, name: str, host: str) -> bool:
        metric, labels = split_series(name)
        labels["host"] = host
        return metric == self.metric and all(each.fits(labels) for each in self.matchers)


def parse_matchers(text: str, *, typed: bool = False) -> tuple[Matcher, ...]:
    """`host=box, mount=~"/data.*"`, separated by commas or lines; raises SelectorError. `typed`: by a person, just now:
    patterns that could take for ever are refused."""
    found: list[Matcher] = []
    for line in text.splitlines():
        position = 0
        while line[position:].strip():
            match = _MATCHER.match(line, position)
            if match is None:
                raise SelectorError(
                    f"'{line[position:].strip()}' is no matcher: write label=value, with = != =~ or !~,"
                    ' the value in "quotes" where it has a comma'
                )
            label, operator = match[1], match[2]
            value = match[3] if match[3] is not None else match[4]
            if operator in ("=~", "!~"):
                _check_pattern(value, typed=typed)
            found.append(Matcher(label, operator, value))
            position = match.end()
    return tuple(found)


def parse_selector(text: str, *, typed: bool = False) -> Selector:
    """`disk_used_percent` or `disk_used_percent{mount=/}`; raises SelectorError. `typed` as in `parse_matchers`."""
    metric, brace, rest = text.strip().partition("{")
    if not _METRIC.fullmatch(metric):
        raise SelectorError(
            f"'{metric}' is no name of a series: small letters, digits and _, then {{label=value}}"
        )
    if brace and not rest.endswith("}"):
        raise SelectorError("the labels end with }")
    return Selector(metric, parse_matchers(rest.removesuffix("}"), typed=typed) if brace else ())


def _check_pattern(pattern: str, *, typed: bool) -> None:
    if len(pattern) > MAX_PATTERN:
        raise SelectorError(f"a regular expression has at most {MAX_PATTERN} characters")
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise SelectorError(f"'{pattern}' is no regular expression: {error}") from error
    # Every second all alerts may be matched, by an engine that tries every way in which a text could fit.
    if typed and (why := _takes_for_ever(pattern)):
        raise SelectorError(f"'{pattern}' could take for ever: {why}")


def _takes_for_ever(pattern: str) -> str:
    """Why it could, '' if it can't: a repeated group that fits in several ways by itself, or many repetitions in a row."""
    several = [False]  # of each open group, whether it fits in several ways
    in_a_row, place = 0, 0
    while place < len(pattern):
        sign, group = pattern[place], False
        if sign == "\\":
            place += 1
        elif sign == "[":
            place = _end_of_set(pattern, place)
        elif sign == "(":
            several.append(False)
            place += pattern[place + 1 :].startswith("?")
        elif sign == ")":
            group = several.pop()
            several[-1] |= group
            if group and pattern[place + 1 : place + 2] in ("*", "+", "{"):
                return "it repeats a group with a choice or a repetition in it"
        elif sign in "*+{?|":
            several[-1] = True
            in_a_row = 0 if sign == "|" and len(several) == 1 else in_a_row + (sign in "*+{")
            if in_a_row > MAX_IN_A_ROW:
                return f"it has more than {MAX_IN_A_ROW} repetitions in a row"
        place += 1
    return ""


def _end_of_set(pattern: str, place: int) -> int:
    """Where the `]` of the `[` at `place` stands; one that stands first means itself."""
    place += 2 if pattern[place + 1] == "^" else 1
    place += pattern[place] == "]"
    while pattern[place] != "]":
        place += 2 if pattern[place] == "\\" else 1
    return place


def split_series(name: str) -> tuple[str, dict[str, str]]:
    """`disk_used_percent{mount=/}` -> (`disk_used_percent`, {mount: /})."""
    metric, _, rest = name.partition("{")
    pairs = (each.partition("=") for each in rest.removesuffix("}").split(",") if each)
    return metric, {label: value for label, _, value in pairs}


def labels_of(host: str, name: str) -> dict[str, str]:
    """All labels of a series: of its name, its metric and its host."""
    metric, labels = split_series(name)
    return {**labels, "metric": metric, "host": host}


def fingerprint(rule_id: int, labels: Mapping[str, str]) -> str:
    """sha256 of the rule's id and the sorted labels, 64 hexadecimal digits."""
    lines = [str(rule_id), *(f"{label}={labels[label]}" for label in sorted(labels))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def unit_of(metric: str) -> str:
    return next((unit for ending, unit in UNITS if metric.endswith(ending)), "")


def format_value(value: float | None, unit: str) -> str:
    """`93.2 %`, `1.50 GiB`, `5.2 d`, `unknown`."""
    if value is None:
        return "unknown"
    if unit == "B" or unit.startswith("B/"):
        for power, name in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
            if abs(value) >= 1024**power:
                return f"{value / 1024**power:.2f} {name}{unit[1:]}"
    if unit == "ms" and abs(value) >= 1000:
        value, unit = value / 1000, "s"
    if unit == "h" and abs(value) >= 48:
        value, unit = value / 24, "d"
    number = f"{value:.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.3g}"
    return f"{number} {unit}".strip()


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `1 min 30 s`, `3 h 5 min`, `2 d 4 h`."""
    whole = max(int(seconds), 0)
    parts = (
        (whole // 86400, "d"),
        (whole % 86400 // 3600, "h"),
        (whole % 3600 // 60, "min"),
        (whole % 60, "s"),
    )
    shown = [f"{number} {unit}" for number, unit in parts if number]
    return " ".join(shown[:2]) or "0 s"
