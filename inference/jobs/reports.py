"""Jobs and variants in words and rows, for pages and the terminal."""

from dataclasses import dataclass
from typing import Any

from inference.archives.selectors import as_json as archive_as_json
from inference.archives.selectors import find as find_archive
from inference.errors import JobInputError
from inference.jobs import importance
from inference.jobs.distilling import distillation_of
from inference.jobs.importance import COLLECT
from inference.jobs.parameters import JobParameters, engines
from inference.jobs.pruning import as_lines, pruning_of
from inference.models import JobKind, ModelArchive, ModelJob, Variant
from inference.models.prompt_set import SHIPPED
from inference.names import full_name
from inference.sizes import size
from inference.work.plan import DYNAMIC

UNKNOWN = "–"


@dataclass(frozen=True)
class Row:
    """One figure of a pair: `tip` says its formula; `verdict` is good, bad or empty (the interval holds no change)."""

    label: str
    source: str
    variant: str
    change: str
    tip: str
    verdict: str = ""


def answering_engine(kind: str, source: str) -> str:
    """The first that answers and has the model, or had it when it was archived; else the first that answers, whose word counts
    then. Raises JobInputError."""
    asked = engines()
    up = [each for each in asked if not each.problem]
    if not up:
        raise JobInputError("engine", " ".join(each.problem for each in asked))
    if kind == JobKind.UNARCHIVE:
        archive = find_archive(source) or find_archive(full_name(source))
        having = [each for each in up if archive is not None and each.name == archive.engine_kind]
    else:
        having = [each for each in up if full_name(source) in each.tags]
    return (having or up)[0].name


def amount(value: float, unit: str) -> str:
    return size(value) if unit == "bytes" else f"{value:,.0f} {unit}"


def rows(variant: Variant) -> list[Row]:
    """Everything measured of the pair; what was not is left out, `missing` says why."""
    found = [
        Row(
            "Size",
            size(variant.source_size_bytes),
            size(variant.size_bytes),
            f"{variant.size_ratio - 1:+.0%}",
            "Bytes of the model as the engine lists it.",
            "good" if variant.size_ratio < 1 else "",
        )
    ]
    if pruning := variant.measure("pruning"):
        before, n = pruning["n_layers"], len(pruning["dropped"])
        tip = "Layers of the file; which went and why stands below."
        found.append(Row("Layers", f"{before:,}", f"{before - n:,}", f"{-n:,}", tip))
    if distillation := variant.measure("distillation"):
        before, after = distillation["n_layers"], len(distillation["kept"])
        tip = "Layers of the file; which stayed, and how it was trained, stands below."
        found.append(Row("Layers", f"{before:,}", f"{after:,}", f"{after - before:,}", tip))
    found += _speeds(variant)
    memory = (
        variant.measure("speed", "variant", "size_bytes"),
        variant.measure("speed", "source", "size_bytes"),
    )
    if all(memory):
        change = f"{memory[0] / memory[1] - 1:+.0%}"
        tip = "Memory of the loaded model as /api/ps tells it, the same context for both."
        found.append(Row("Memory, loaded", size(memory[1]), size(memory[0]), change, tip))
    return [*found, *_quality(variant), *_score(variant)]


def _speeds(variant: Variant) -> list[Row]:
    found = []
    for name, label, unit, more_is_better, tip in (
        ("load_ms", "Load time", "ms", False, "load_duration after an unload; pairs in turns AB BA."),
        (
            "prefill_tokens_per_s",
            "Reading",
            "tok/s",
            True,
            "prompt_eval_count / prompt_eval_duration, nothing cached.",
        ),
        (
            "decode_tokens_per_s",
            "Writing",
            "tok/s",
            True,
            "eval_count / eval_duration; pairs in turns AB BA.",
        ),
    ):
        ratio = variant.measure("speed", name)
        if not ratio:
            continue
        change, verdict = f"{ratio['ratio']:.2f} ×", ""
        if ratio["interval"]:
            low, high = ratio["interval"]
            change += f" [{low:.2f}, {high:.2f}]"
            if not low <= 1 <= high:
                verdict = "good" if (ratio["ratio"] > 1) == more_is_better else "bad"
        found.append(
            Row(
                label,
                f"{ratio['a']:,.1f} {unit}",
                f"{ratio['b']:,.1f} {unit}",
                change,
                f"{tip} Median of {ratio['n_pairs']} pairs; ratio with its interval at 95 %.",
                verdict,
            )
        )
    return found


def _quality(variant: Variant) -> list[Row]:
    quality = variant.measure("quality")
    if not quality:
        return []
    n = f"{quality['n_positions']:,} positions of {quality['n_prompts']} prompts of the set {prompts_of(quality)}"
    return [
        Row(
            "Divergence (KL)",
            "0",
            f"{quality['kl']['value']:.2g}",
            interval(quality["kl"], "{:.2g}") + " nats/token",
            f"Mean over {n} of sum p ln(p/q) over the tokens that both lists of the 20 most likely have, and the rest as "
            "one: a lower bound.",
        ),
        Row(
            "Same top token",
            "100 %",
            f"{quality['same_top']['value']:.1%}",
            interval(quality["same_top"], "{:.1%}"),
            f"Share of {n} where both find the same token most likely; {quality['n_flips']} differ.",
        ),
        Row(
            "RMS Δp",
            "0",
            f"{quality['rms_delta_p']['value']:.2%}",
            interval(quality["rms_delta_p"], "{:.2%}"),
            "Root mean square of the change in probability of the token that the source chose.",
        ),
    ]


def _score(variant: Variant) -> list[Row]:
    score = variant.measure("score")
    if not score:
        return []
    changed = score["n_lost"] + score["n_won"]
    worse = score["p"] < 0.05 and score["n_lost"] > score["n_won"]
    better = score["p"] < 0.05 and score["n_won"] > score["n_lost"]
    return [
        Row(
            "Right answers",
            f"{score['n_right_reference']} of {score['n']}",
            f"{score['n_right_candidate']} of {score['n']}",
            f"{score['n_lost']} lost, {score['n_won']} won" if changed else "none changed",
            f"Whole answers on labelled prompts of the set {prompts_of(score)}. McNemar's exact test of those that changed: "
            f"p = {score['p']:.2g}. Interval of the share at 95 % (Wilson): "
            f"{score['candidate'][0]:.1%} to {score['candidate'][1]:.1%}.",
            "bad" if worse else "good" if better else "",
        )
    ]


def prompts_of(measure: dict[str, Any]) -> str:
    """Which labelled set it was measured with; before people could add theirs there was one."""
    return str((measure.get("prompts") or {}).get("name") or SHIPPED)


def asked(job: ModelJob) -> list[tuple[str, str]]:
    """What was asked for, in the words of the form."""
    parameters = JobParameters.model_validate(job.parameters)
    if job.kind == JobKind.ARCHIVE:
        after = "deleted once the archive is verified" if parameters.delete_after else "kept"
        return [
            ("Engine", parameters.engine_kind),
            ("Model", job.source),
            ("File", job.target),
            ("The model is", after),
        ]
    if job.kind == JobKind.UNARCHIVE:
        after = "deleted once the model is made" if parameters.delete_after else "kept"
        return [
            ("File", job.source),
            ("Engine", parameters.engine_kind),
            ("Model", job.target),
            ("The archive is", after),
        ]
    found = [("Engine", parameters.engine_kind), ("Source", job.source), ("Variant", job.target)]
    if parameters.level:
        found += [("Type", parameters.level), ("Made by", parameters.maker)]
    if parameters.importance:
        found.append(("Importance matrix", parameters.importance))
    if parameters.importance == COLLECT:
        found.append(
            ("Read for it", parameters.calibration or f"the other half of {parameters.prompts or SHIPPED}")
        )
    if job.kind == JobKind.PRUNE:
        n, limit = parameters.layers, parameters.max_loss
        found.append(("Layers to drop", "as many as the loss allows" if n is None else f"{n:,}"))
        found.append(("Most loss", "no limit" if limit is None else f"KL of {limit:g} nats per token"))
    if parameters.distillation is not None:
        found += [
            (str(field.description).capitalize(), str(getattr(parameters.distillation, name)))
            for name, field in type(parameters.distillation).model_fields.items()
        ]
    if parameters.level == DYNAMIC:
        loss = parameters.max_loss
        found.append(("Budget", parameters.budget if loss is None else f"KL of {loss:g} nats per token"))
    found.append(("Labelled prompts", parameters.prompts or SHIPPED))
    found += [
        (str(field.description).capitalize(), f"{getattr(parameters.measures, name):,}")
        for name, field in type(parameters.measures).model_fields.items()
    ]
    return found


def archive_facts(archive: ModelArchive) -> list[tuple[str, str]]:
    saved = archive.size_bytes - archive.archive_bytes
    return [
        ("Model", f"{archive.name} ({archive.quantization or 'type unknown'})"),
        ("Size", f"{size(archive.size_bytes)} → {size(archive.archive_bytes)}, {archive.ratio:.1%} of it"),
        ("Saved", size(saved) if saved > 0 else f"nothing: {-saved:,} bytes more"),
        ("SHA-256", archive.sha256),
        ("File", str(archive.path)),
    ]


def interval(estimate: dict[str, Any], form: str) -> str:
    if not estimate["interval"]:
        return "no interval: too few prompts"
    return f"[{form.format(estimate['interval'][0])}, {form.format(estimate['interval'][1])}]"


def job_as_json(job: ModelJob) -> dict[str, Any]:
    variant, archive = job.variants.first(), job.archives.first()
    return {
        "job": job.pk,
        "kind": job.kind,
        "state": job.state,
        "reason": job.reason,
        "source": job.source,
        "target": job.target,
        "parameters": job.parameters,
        "took_s": job.took_s,
        "steps": job.steps,
        "variant": None if variant is None else variant_as_json(variant),
        "archive": None if archive is None else archive_as_json(archive),
        "result": job.result,
    }


def variant_as_json(variant: Variant) -> dict[str, Any]:
    fields = (
        "name",
        "digest",
        "quantization",
        "size_bytes",
        "source",
        "source_digest",
        "source_quantization",
    )
    return {
        **{name: getattr(variant, name) for name in fields},
        "source_size_bytes": variant.source_size_bytes,
        "maker": variant.maker,
        "measures": variant.measures,
    }


def job_as_text(job: ModelJob) -> str:
    took = f" in {job.took_s:.1f} s" if job.took_s is not None else ""
    lines = [f"job {job.pk} {job.state}{took}: {job.kind} {job.source} -> {job.target}"]
    variant, archive = job.variants.first(), job.archives.first()
    if archive is not None:
        lines += [f"  {label:<18} {value}" for label, value in archive_facts(archive)]
    if variant is not None:
        lines += [
            f"  {row.label:<18} {row.source:>14} {row.variant:>14}  {row.change}" for row in rows(variant)
        ]
        lines += [f"  {label:<18} {value}" for label, value in importance.as_facts(variant)]
        if (record := pruning_of(variant)) is not None:
            lines += as_lines(record)
        if (distilled := distillation_of(variant)) is not None:
            lines += distilled.as_lines
    return "\n".join(lines)
