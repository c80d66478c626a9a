"""Pages of the jobs and of what they made."""

from itertools import groupby
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from inference import tasks
from inference.aliases import selectors as aliases
from inference.aliases import services as alias_services
from inference.distillation import kept
from inference.errors import InferenceError, NotAllowedError
from inference.jobs import charts, importance, reports, selectors, services
from inference.jobs.distilling import distillation_of
from inference.jobs.execution import checkpoints
from inference.jobs.forms import KINDS, JobForm
from inference.jobs.heat_map import heat_map
from inference.jobs.parameters import JobParameters, check, why_gone
from inference.jobs.pruning import pruning_of
from inference.models import AliasChange, JobKind, JobState, ModelJob, Variant
from inference.pushing import Delivery, Told

PER_PAGE = 25


@require_safe
@never_cache
def job_list(request: HttpRequest) -> HttpResponse:
    asked = {name: request.GET.get(name, "").strip()[:200] for name in ("state", "kind", "model")}
    page = Paginator(selectors.find_jobs(**asked), PER_PAGE).get_page(request.GET.get("page"))
    context = {
        "page": page,
        "asked": asked,
        "is_filtered": any(asked.values()),
        "states": JobState.choices,
        "kinds": JobKind.choices,
        "checkpoints": selectors.resting(kept.kept(checkpoints())),
        "max_kept": kept.MAX_KEPT,
        "keep_days": kept.KEEP_DAYS,
    }
    return _page(request, "jobs", context)


@require_http_methods(["GET", "POST"])
@never_cache
def new_job(request: HttpRequest) -> HttpResponse:
    _staff_only(request)
    if request.method == "POST":
        form = JobForm(request.POST)
        if form.is_valid() and form.checked is not None:
            return redirect("job", _create(request, form.cleaned_data["kind"], *form.checked).pk)
    else:
        kind = request.GET.get("kind", "")
        asked = {name: request.GET[name] for name in ("source", "target", "level") if name in request.GET}
        form = JobForm(initial={"kind": kind if kind in dict(KINDS) else JobKind.QUANTIZE, **asked})
    return render(request, "inference/job_new.html", {"form": form, "kind": form["kind"].value()})


def _create(
    request: HttpRequest,
    kind: str,
    source: str,
    target: str,
    parameters: JobParameters,
    retry_of: ModelJob | None = None,
) -> ModelJob:
    job = services.create_job(
        kind, source, target, parameters, host=settings.HOST_NAME, retry_of=retry_of, **_person(request)
    )
    tasks.wake_model_worker()
    return job


@require_safe
@never_cache
def job_page(request: HttpRequest, job_id: int) -> HttpResponse:
    job = get_object_or_404(ModelJob.objects.select_related("retry_of"), pk=job_id)
    variant, archive = job.variants.first(), job.archives.first()
    context = {
        "job": job,
        "may_change": selectors.may_change(request.user, job),
        "n_ahead": selectors.n_ahead(job) if job.state == JobState.QUEUED else 0,
        "waits_for": selectors.waits_for(job) if job.state == JobState.QUEUED else "",
        "variant": variant,
        "archive": archive,
        "archive_facts": reports.archive_facts(archive) if archive else [],
        "rows": reports.rows(variant) if variant else [],
        "pruning": pruning_of(variant) if variant else None,
        "distillation": distillation_of(variant) if variant else None,
        "checkpoint": next((each for each in kept.kept(checkpoints()) if each.job == job.pk), None),
        "asked": reports.asked(job),
    }
    return _page(request, "job", context)


@require_safe
@never_cache
def job_json(request: HttpRequest, job_id: int) -> HttpResponse:
    job = get_object_or_404(ModelJob, pk=job_id)
    answer = JsonResponse(reports.job_as_json(job), json_dumps_params={"indent": 2})
    answer["Content-Disposition"] = f'attachment; filename="model-job-{job.pk}.json"'
    return answer


@require_POST
def cancel(request: HttpRequest, job_id: int) -> HttpResponse:
    job = _changeable(request, job_id)
    try:
        services.cancel_job(job, who=request.user.get_username(), now=timezone.now())
    except NotAllowedError as error:
        messages.error(request, str(error))
    return redirect("job", job.pk)


@require_POST
def retry(request: HttpRequest, job_id: int) -> HttpResponse:
    """The same once more, as a new job. What was made already is only measured."""
    _staff_only(request)
    job = _changeable(request, job_id)
    parameters = JobParameters.model_validate(job.parameters)
    kind = JobKind.MEASURE if job.variants.exists() else JobKind(job.kind)
    try:
        if not job.is_over:
            raise NotAllowedError("This job is not over yet.")
        source, target = check(kind, job.source, job.target, parameters)
    except InferenceError as error:
        messages.error(request, str(error))
        return redirect("job", job.pk)
    return redirect("job", _create(request, kind, source, target, parameters, retry_of=job).pk)


@require_POST
def throw_away_checkpoint(request: HttpRequest, key: str) -> HttpResponse:
    """What a distillation that is over kept to go on."""
    found = next((each for each in selectors.resting(kept.kept(checkpoints())) if each.key == key), None)
    if found is None:
        messages.error(request, "It is gone already, or a job is using it.")
        return redirect("jobs")
    _changeable(request, found.job)
    kept.throw_away(checkpoints(), key)
    messages.success(request, f"The training of {found.target} was thrown away: it begins anew.")
    return redirect("job", found.job)


@require_safe
@never_cache
def variants(request: HttpRequest) -> HttpResponse:
    """The variants of each source, with their picture."""
    model = request.GET.get("model", "").strip()[:200]
    found = selectors.variants()
    if model:
        found = found.filter(source__icontains=model)
    groups = []
    for source, rows in groupby(found, lambda each: each.source):
        members = list(rows)
        groups.append({"source": source, "variants": members, "pictures": charts.pictures_of(members)})
    return _page(
        request,
        "variants",
        {"groups": groups, "model": model, "aliases": [each for each in aliases.in_force() if each.after]},
    )


@require_safe
@never_cache
def variant_page(request: HttpRequest, variant_id: int) -> HttpResponse:
    variant = get_object_or_404(Variant.objects.select_related("job"), pk=variant_id)
    context = {
        "variant": variant,
        "rows": reports.rows(variant),
        "heat_map": heat_map(variant),
        "pruning": pruning_of(variant),
        "distillation": distillation_of(variant),
        "importance": importance.as_facts(variant),
        "is_used": aliases.target_of(variant.source) == variant.name,
    }
    return render(request, "inference/variant.html", context)


@require_POST
def use_variant(request: HttpRequest, variant_id: int) -> HttpResponse:
    """The variant answers for its source from the next request on."""
    _staff_only(request)
    variant = get_object_or_404(Variant, pk=variant_id)
    try:
        if gone := why_gone(variant):
            raise NotAllowedError(gone)
        alias_services.set_alias(variant.source, variant.name, **_person(request), told=_say_to(request))
    except NotAllowedError as error:
        messages.error(request, str(error))
    return redirect("variants")


@require_POST
def undo_alias(request: HttpRequest, change_id: int) -> HttpResponse:
    _staff_only(request)
    change = get_object_or_404(AliasChange, pk=change_id)
    try:
        alias_services.undo(change, **_person(request), told=_say_to(request))
    except NotAllowedError as error:
        messages.error(request, str(error))
    return redirect("variants")


def _person(request: HttpRequest) -> dict[str, Any]:
    user = request.user if isinstance(request.user, User) else None
    return {"who": request.user.get_username(), "user": user, "now": timezone.now()}


def _say_to(request: HttpRequest) -> Told:
    def say(delivery: Delivery) -> None:
        (messages.success if delivery.ok else messages.warning)(request, delivery.text)

    return say


def _page(request: HttpRequest, name: str, context: dict[str, object]) -> HttpResponse:
    """The whole page, or only what changes of it, for htmx."""
    partial = request.headers.get("HX-Request") == "true"
    return render(request, f"inference/_{name}.html" if partial else f"inference/{name}.html", context)


def _staff_only(request: HttpRequest) -> None:
    if not request.user.is_staff:
        raise PermissionDenied("Only staff may make models.")


def _changeable(request: HttpRequest, job_id: int) -> ModelJob:
    job = get_object_or_404(ModelJob, pk=job_id)
    if not selectors.may_change(request.user, job):
        raise PermissionDenied("This job belongs to somebody else.")
    return job
