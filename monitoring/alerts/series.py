"""Names of series, what selects them, and the fingerprint of a rule on one of them. No Django in here."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

_MATCHER = re.compile(r'\s*([A-Za-z_]\w*)\s*(=~|!~|!=|=)\s*(?:"([^"]*)"|([^",]*?))\s*(?:,|$)')
_METRIC = re.compile(r"[a-z_][a-z0-9_]*")
MAX_PATTERN = 200
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


def parse_matchers(text: str) -> tuple[Matcher, ...]:
    """`host=box, mount=~"/data.*"`, separated by commas or lines; raises SelectorError."""
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
                _check_pattern(value)
            found.append(Matcher(label, operator, value))
            position = match.end()
    return tuple(found)


def parse_selector(text: str) -> Selector:
    """`disk_used_percent` or `disk_used_percent{mount=/}`; raises SelectorError."""
    metric, brace, rest = text.strip().partition("{")
    if not _METRIC.fullmatch(metric):
        raise SelectorError(
            f"'{metric}' is no name of a series: small letters, digits and _, then {{label=value}}"
        )
    if brace and not rest.endswith("}"):
        raise SelectorError("the labels end with }")
    return Selector(metric, parse_matchers(rest.removesuffix("}")) if brace else ())


def _check_pattern(pattern: str) -> None:
    if len(pattern) > MAX_PATTERN:
        raise SelectorError(f"a regular expression has at most {MAX_PATTERN} characters")
    try:
        re.compile(pattern)
    except re.error as error:
        raise SelectorError(f"'{pattern}' is no regular expression: {error}") from error
    # Every second all alerts may be matched: a repeated group that is repeated itself can take for ever.
    if re.search(r"\([^()]*[*+}][^()]*\)[*+{]", pattern):
        raise SelectorError(
            f"'{pattern}' repeats a group that repeats itself; write it without the outer repetition"
        )


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
    """`45 s`, `12 min`, `3 h 5 min`, `2 d 4 h`."""
    whole = max(int(seconds), 0)
    parts = (
        (whole // 86400, "d"),
        (whole % 86400 // 3600, "h"),
        (whole % 3600 // 60, "min"),
        (whole % 60, "s"),
    )
    shown = [f"{number} {unit}" for number, unit in parts if number]
    return " ".join(shown[:2]) if whole >= 3600 else (shown[0] if shown else "0 s")
