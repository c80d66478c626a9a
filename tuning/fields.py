"""The fields of a profile: one table for models, forms, checks, pages and YAML. Pure: no Django, no engine."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["integer", "number", "switch", "choice"]
Values = dict[str, Any]


@dataclass(frozen=True)
class Field:
    """`low` to `high` inclusive. `acts`: what the value changes, in a sentence for the page."""

    name: str
    label: str
    kind: Kind
    group: str
    acts: str
    unit: str = ""
    low: float = 0
    high: float = 0
    choices: tuple[tuple[str, str], ...] = ()
    left_open: str = "left to the engine"  # what no value anywhere means


MODEL, MACHINE, CACHE, ALERTS, VARIANT = "Model options", "Limits", "Cache", "Alerts", "Model variant"
RULE = "Sets the default alert rule. Left open, the rule stays as config.yaml or a person set it."
THE_RULES = "left to the rule"

FIELDS: tuple[Field, ...] = (
    Field(
        *(
            "context",
            "Context",
            "integer",
            MODEL,
            "num_ctx of requests that name none; another value reloads.",
        ),
        *("tokens", 512, 131072),
    ),
    Field(
        *(
            "engine_batch",
            "Engine batch",
            "integer",
            MODEL,
            "num_batch: prompt tokens taken at a time; reloads.",
        ),
        *("tokens", 1, 8192),
    ),
    Field(
        *(
            "num_predict",
            "Longest answer",
            "integer",
            MODEL,
            "num_predict (max_tokens) of requests that name none.",
        ),
        *("tokens", 1, 131072),
    ),
    Field("temperature", "Temperature", "number", MODEL, "Of requests that name none.", "", 0, 2),
    Field("top_p", "Nucleus (top_p)", "number", MODEL, "Of requests that name none.", "", 0.01, 1),
    Field(
        "gpu", "GPU", "switch", MACHINE, "Off: num_gpu 0, whatever the request asks. On: the engine decides."
    ),
    Field(
        *(
            "batch",
            "Parallel requests",
            "integer",
            MACHINE,
            "So many requests of a model run at a time; others wait.",
        ),
        *("", 1, 64),
        left_open="no limit",
    ),
    Field(
        *(
            "cpu_percent",
            "CPU limit",
            "number",
            MACHINE,
            "Caps num_thread at this share of the machine's threads.",
        ),
        *("%", 10, 100),
        left_open="no limit",
    ),
    Field(
        *("memory_optimization", "Memory optimization", "switch", MACHINE),
        "On: the least recently used idle model is unloaded while the loaded ones exceed a memory limit.",
    ),
    Field(
        *(
            "memory_mb",
            "Memory limit",
            "integer",
            MACHINE,
            "Of all loaded models together; with memory optimization.",
        ),
        *("MB", 256, 4194304),
        left_open="no limit",
    ),
    Field(
        *("gpu_memory_percent", "GPU memory limit", "number", MACHINE),
        "Share of all GPU memory that loaded models may take; with memory optimization, and a GPU that tells its memory.",
        *("%", 10, 100),
        left_open="no limit",
    ),
    Field(
        *("cache", "Cache", "switch", CACHE, "On: every answer is kept. Off: none is."),
        left_open="only what can be repeated (temperature 0, a fixed seed, embeddings)",
    ),
    Field(
        "cache_ttl_min", "Cache time", "number", CACHE, "Minutes that an answer is kept.", "min", 0.1, 10080
    ),
    Field("alert_memory_percent", "Memory alert", "number", ALERTS, RULE, "%", 1, 100, left_open=THE_RULES),
    Field("alert_cpu_percent", "CPU alert", "number", ALERTS, RULE, "%", 1, 100, left_open=THE_RULES),
    Field(
        *("alert_seconds", "Alert time", "number", ALERTS, f"How long it has to last. {RULE}"),
        *("s", 1, 3600),
        left_open=THE_RULES,
    ),
    Field(
        *("quantization", "Quantization", "choice", VARIANT),
        "A measured variant of this level answers for its model; a missing one is proposed. none: models stay as they are.",
        choices=(
            ("none", "none"),
            ("int4", "INT4"),
            ("int8", "INT8"),
            ("fp16", "FP16"),
            ("dynamic", "Dynamic"),
        ),
        left_open="as config.yaml says for large models",
    ),
    Field(
        *("compression", "Compression", "choice", VARIANT),
        "gzip, zstd: a model that nobody asks for is proposed for the archive. pruning: a measured variant with fewer"
        " layers answers. none: nothing of it.",
        choices=(("none", "none"), ("gzip", "gzip"), ("zstd", "zstd"), ("pruning", "pruning")),
        left_open="as config.yaml says for large models",
    ),
    Field(
        *("max_loss", "Most loss", "number", VARIANT),
        "What a variant may lose against its source to be used: KL in nats per token, as measured.",
        *("nats", 0.0001, 10),
    ),
)
BY_NAME: Mapping[str, Field] = {field.name: field for field in FIELDS}
GROUPS = (MODEL, MACHINE, CACHE, ALERTS, VARIANT)
CATEGORIES = (
    *(("hardware", "Hardware"), ("use_case", "Use case"), ("performance", "Performance")),
    *(("resource", "Resources"), ("custom", "Own")),
)
TARGET_HARDWARE = (
    *(("any", "any"), ("low_end", "low end"), ("medium_end", "medium"), ("high_end", "high end")),
    ("server_grade", "server"),
)
TARGET_USES = (
    *(("any", "any"), ("real_time", "real time"), ("batch", "batch"), ("interactive", "interactive")),
    *(("background", "background"), ("demo", "demonstration")),
)


def problem(field: Field, value: Any) -> str | None:
    """What is wrong with a value and what to do, or None. None as a value means inherited."""
    if value is None:
        return None
    if field.kind == "switch":
        return None if isinstance(value, bool) else f"{value!r} is neither true nor false."
    if field.kind == "choice":
        names = [name for name, _ in field.choices]
        return None if value in names else f"{value!r} is none of {', '.join(names)}."
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"{value!r} is not a number: give {in_range(field)}."
    if field.kind == "integer" and not isinstance(value, int):
        return f"{value!r} is not a whole number: give {in_range(field)}."
    if not field.low <= value <= field.high:
        return f"{value:g} is out of range: give {in_range(field)}."
    return None


def in_range(field: Field) -> str:
    return f"{field.low:g} to {number(field.high)} {field.unit}".strip()


def number(value: float) -> str:
    return f"{value:.0f}" if float(value).is_integer() else f"{value:g}"


def shown(field: Field, value: Any) -> str:
    """A value in words, with its unit."""
    if value is None:
        return field.left_open
    if field.kind == "switch":
        return "on" if value else "off"
    if field.kind == "choice":
        return dict(field.choices).get(value, str(value))
    return f"{number(value)} {field.unit}".strip()
