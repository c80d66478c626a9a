"""Runs as people read them: a row of the list, the result page, the text of the terminal."""

from dataclasses import dataclass
from typing import Any

from benchmarks import exports
from benchmarks.engines import label_of
from benchmarks.figures import interval, number, ratio, ratio_interval, shown, text_table, unit
from benchmarks.models import Run
from benchmarks.outcome import Outcome
from benchmarks.parameters import Parameters
from benchmarks.statistics.metrics import METRICS, Metric
from benchmarks.statistics.strata import Stratum
from benchmarks.statistics.verdicts import Comparison
from benchmarks.templatetags.benchmarks import duration

HEADLINES = ("output_tokens_per_s", "ttft_p50_ms", "error_rate")
TONES = {"better": "good", "worse": "bad"}
Lines = list[tuple[str, str]]


@dataclass(frozen=True)
class Column:
    label: str
    texts: list[str]


@dataclass(frozen=True)
class ListRow:
    run: Run
    columns: list[Column]


def list_row(run: Run) -> ListRow:
    """The headline figures, a line per model."""
    columns = [
        Column(
            METRICS[key].label, [shown(run.figures.get(model, {}).get(key), key) for model in run.model_names]
        )
        for key in HEADLINES
    ]
    return ListRow(run, columns)


@dataclass(frozen=True)
class Cell:
    """One model's figure; `ratio` to the first model, where both are compared."""

    model: str
    text: str
    interval: str
    ratio: str = ""
    ratio_interval: str = ""
    verdict: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Row:
    key: str
    label: str
    unit: str
    formula: str
    cells: list[Cell]


@dataclass(frozen=True)
class Report:
    models: list[str]
    rows: list[Row]
    missing: Lines  # metrics that have no value, and why
    decisions: Lines  # each model against the first one
    invalid: list[str]
    warnings: list[str]
    notes: list[str]
    errors: Lines
    strata: list[tuple[str, list[Stratum]]]
    asked: Lines
    fingerprint: Lines
    took: str

    @property
    def has_results(self) -> bool:
        return bool(self.rows)


def run_report(run: Run, outcome: Outcome) -> Report:
    summaries = outcome.summaries
    return Report(
        models=list(summaries),
        rows=[row for metric in METRICS.values() if (row := _row(metric, outcome)) is not None],
        missing=_missing(outcome),
        decisions=[(model, decision.why) for model, decision in outcome.decisions.items()],
        invalid=_told(
            {model: [each.invalid_reason] for model, each in summaries.items() if each.invalid_reason}
        ),
        warnings=_told({model: each.warnings for model, each in summaries.items()}),
        notes=_told({model: each.notes for model, each in summaries.items()}),
        errors=[
            (f"{model}: {count} × {status}", each.error_examples.get(status, ""))
            for model, each in summaries.items()
            for status, count in each.errors.items()
        ],
        strata=[(model, each.strata) for model, each in summaries.items() if each.strata],
        asked=asked_for(Parameters.model_validate(run.parameters)),
        fingerprint=fingerprint_lines(run.fingerprint) + harness_lines(outcome),
        took=duration(run.took_s) if run.took_s is not None else "",
    )


def _row(metric: Metric, outcome: Outcome) -> Row | None:
    """None for a metric that no model has a value of."""
    values = {model: each.values[metric.key] for model, each in outcome.summaries.items()}
    if all(value.value is None for value in values.values()):
        return None
    compared = {
        model: next(
            (each for each in [*decision.comparisons, *decision.guardrails] if each.metric == metric.key),
            None,
        )
        for model, decision in outcome.decisions.items()
    }
    cells = [
        _cell(
            model, number(value.value, metric), interval(value.low, value.high, metric), compared.get(model)
        )
        for model, value in values.items()
    ]
    return Row(metric.key, metric.label, unit(metric), metric.formula, cells)


def _cell(model: str, text: str, between: str, comparison: Comparison | None) -> Cell:
    if comparison is None:
        return Cell(model, text, between)
    return Cell(
        model,
        text,
        between,
        ratio(comparison.ratio),
        ratio_interval(comparison.low, comparison.high),
        comparison.verdict,
        TONES.get(comparison.verdict, ""),
    )


def _missing(outcome: Outcome) -> Lines:
    first = next(iter(outcome.summaries.values()), None)
    if first is None:
        return []
    return [
        (metric.label, first.values[key].reason or "unknown")
        for key, metric in METRICS.items()
        if all(each.values[key].value is None for each in outcome.summaries.values())
    ]


def _told(by_model: dict[str, list[str]]) -> list[str]:
    """Each sentence once, with the models it is about where it is not about all."""
    where: dict[str, list[str]] = {}
    for model, sentences in by_model.items():
        for sentence in sentences:
            where.setdefault(sentence, []).append(model)
    return [text if len(by_model) == 1 else f"{', '.join(models)}: {text}" for text, models in where.items()]


def asked_for(parameters: Parameters) -> Lines:
    """What the run was asked to do."""
    how = {
        "latency": "one request after the other",
        "throughput": f"{parameters.concurrency} requests at a time",
        "load": f"{parameters.concurrency} users, {parameters.think_time_s:g} s between an answer and the next request",
    }[parameters.kind]
    if parameters.rate_per_s:
        how = f"{parameters.rate_per_s:g} arrivals per second"
    lengths = f"{parameters.prompt_tokens} tokens in, {parameters.output_tokens} out"
    slo = {"ttft_ms": "first token", "total_ms": "whole answer", "tpot_ms": "each further token"}
    bounds = [
        f"{label} within {value:g} ms"
        for name, label in slo.items()
        if (value := getattr(parameters.slo, name))
    ]
    options = parameters.options | ({"num_predict": parameters.num_predict} if parameters.num_predict else {})
    return [
        ("Engine", label_of(parameters.engine) + (f" at {parameters.url}" if parameters.url else "")),
        *([("API key", f"from the variable {parameters.key_variable}")] if parameters.key_variable else []),
        ("Models", ", ".join(parameters.models)),
        ("Kind", f"{parameters.kind}: {how}"),
        ("Prompts", (parameters.workload or lengths).replace("_", " ")),
        ("Amount", f"{parameters.n_rounds} rounds of {parameters.n_requests} requests for each model"),
        ("Warm-up", f"{parameters.warmup} requests before each round"),
        ("Options", ", ".join(f"{name} {value}" for name, value in options.items()) or "the engine's own"),
        ("Good means", ", ".join(bounds) or "not said"),
        ("Time limit", f"{parameters.timeout_s:g} s for a request"),
        ("Seed", f"{parameters.seed}"),
    ]


def fingerprint_lines(fingerprint: dict[str, Any]) -> Lines:
    """Host, engine and models; what is unknown says so."""
    if not fingerprint:
        return []
    host, engine = fingerprint["host"], fingerprint["engine"]
    memory = f"{host['memory_bytes'] / 2**30:.1f} GiB" if host["memory_bytes"] else "unknown"
    gpus = [f"{gpu['name']} (driver {gpu['driver'] or 'unknown'})" for gpu in host["gpus"]]
    return [
        ("Host", f"{host['name']}, {host['system']}"),
        (
            "CPU",
            f"{host['cpu'] or 'unknown'}, {host['n_cores'] or '?'} cores, {host['n_threads'] or '?'} threads",
        ),
        ("Memory", memory),
        ("GPU", ", ".join(gpus) or f"none: {host['gpu_reason'] or 'unknown why'}"),
        ("Engine", f"{engine['kind']} {engine['version'] or 'of unknown version'} at {engine['url']}"),
        *(_model_line(model) for model in fingerprint["models"].values()),
    ]


def _model_line(model: dict[str, Any]) -> tuple[str, str]:
    size = f"{model['size_bytes'] / 2**20:,.0f} MiB" if model["size_bytes"] else ""
    digest = f"digest {model['digest'][:12]}" if model["digest"] else "digest unknown"
    known = [model["parameter_size"], model["quantization"], size, digest]
    return model["name"], ", ".join(part for part in known if part)


def harness_lines(outcome: Outcome) -> Lines:
    """What measuring itself took, in the worst round of all models."""
    shares = [
        each.harness_cpu_share for each in outcome.summaries.values() if each.harness_cpu_share is not None
    ]
    lags = [
        each.harness_lag_p99_ms for each in outcome.summaries.values() if each.harness_lag_p99_ms is not None
    ]
    if not shares:
        return []
    lag = f"its loop lag p99 {max(lags):.1f} ms" if lags else "too short for its loop lag"
    return [("Load generator", f"{max(shares):.0%} of a core at most, {lag}")]


def run_summary(run: Run, outcome: Outcome) -> dict[str, Any]:
    """What `manage.py benchmark --json` prints: the run and its outcome, without the single requests."""
    return {**exports.run_head(run), **outcome.as_json()}


def run_as_text(run: Run, outcome: Outcome) -> str:
    """The result page for a terminal."""
    report = run_report(run, outcome)
    lines = [f"Run {run.pk} {run.state}: {run.kind} of {', '.join(run.model_names)}"]
    if report.rows:
        header = ["", "unit"]
        for position, model in enumerate(report.models):
            header += [model, "95 %"] + (["ratio", "verdict"] if position else [])
        table = [header]
        for row in report.rows:
            line = [row.label, row.unit]
            for position, cell in enumerate(row.cells):
                line += [cell.text, cell.interval] + ([cell.ratio, cell.verdict] if position else [])
            table.append(line)
        lines += text_table(table)
    lines += [f"Not valid: {reason}" for reason in report.invalid]
    lines += [f"Note: {sentence}" for sentence in (*report.warnings, *report.notes)]
    lines += [f"Errors: {what}: {example}" for what, example in report.errors]
    lines += [f"{model} against {report.models[0]}: {why}" for model, why in report.decisions]
    return "\n".join(lines)
