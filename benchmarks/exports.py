"""Downloads of a run: everything as JSON, its figures and its requests as CSV."""

import csv
import io
from typing import Any

from benchmarks import selectors
from benchmarks.load.result import Requests
from benchmarks.models import Run
from benchmarks.outcome import Outcome
from benchmarks.statistics.metrics import METRICS
from benchmarks.statistics.summary import Value

COLUMNS = [name for name in Requests.model_fields if name != "gaps_ms"]


def run_head(run: Run) -> dict[str, Any]:
    """The run without its measurements."""
    return {
        "run": run.pk,
        "state": run.state,
        "reason": run.reason,
        "host": run.host,
        "who": run.who,
        "created_at": _iso(run.created_at),
        "started_at": _iso(run.started_at),
        "ended_at": _iso(run.ended_at),
        "is_baseline": run.is_baseline,
        "parameters": run.parameters,
        "fingerprint": run.fingerprint,
        "figures": run.figures,
    }


def run_as_json(run: Run) -> dict[str, Any]:
    """The run with its outcome, and each measurement's summary and Result, as benchmarks/load/result.py describes it."""
    measurements = [
        {
            "model": row.model,
            "round": row.round + 1,
            "started_at": _iso(row.started_at),
            "ended_at": _iso(row.ended_at),
            "complete": row.complete,
            "summary": row.summary,
            "result": result,
        }
        for row, result in selectors.raw_results(run)
    ]
    return {**run_head(run), **Outcome.of(run).as_json(), "measurements": measurements}


def figures_as_csv(run: Run) -> str:
    """One line per model and metric, with the reason where there is no value; shares from 0 to 1."""
    text = io.StringIO()
    lines = csv.writer(text)
    lines.writerow(["model", "metric", "label", "unit", *Value.model_fields])
    for model, summary in Outcome.of(run).summaries.items():
        for key, metric in METRICS.items():
            value = summary.values[key].model_dump()
            lines.writerow([_safe(model), key, metric.label, metric.unit, *value.values()])
    return text.getvalue()


def requests_as_csv(run: Run) -> str:
    """One line per request, warm-up included (`measured` tells); instants in ms since `started_at` of its measurement."""
    text = io.StringIO()
    lines = csv.writer(text)
    lines.writerow(["model", "round", "started_at", *COLUMNS])
    for row, result in selectors.raw_results(run):
        first = (_safe(row.model), row.round + 1, result["started_at"])
        lists = [result["requests"][name] for name in COLUMNS]
        lines.writerows((*first, *map(_safe, values)) for values in zip(*lists, strict=True))
    return text.getvalue()


def _safe(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula is quoted."""
    return f"'{value}" if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"} else value


def _iso(at: Any) -> str | None:
    return at.isoformat() if at else None
