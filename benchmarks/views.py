"""Pages of the benchmarks."""

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST, require_safe

from benchmarks import charts, comparisons, exports, reports, selectors, services, tasks
from benchmarks.engines import engine_models, find_engine, for_staff
from benchmarks.errors import BenchmarkError, NotAllowedError
from benchmarks.estimates import estimate_s
from benchmarks.forms import KINDS, RunForm, form_values, split_names
from benchmarks.models import Run, State
from benchmarks.outcome import Outcome
from benchmarks.parameters import Parameters

PER_PAGE = 25


@require_safe
@never_cache
def run_list(request: HttpRequest) -> HttpResponse:
    asked = {name: request.GET.get(name, "").strip()[:200] for name in ("state", "kind", "model")}
    page = Paginator(selectors.find_runs(**asked), PER_PAGE).get_page(request.GET.get("page"))
    context = {
        "page": page,
        "rows": [reports.list_row(run) for run in page],
        "asked": asked,
        "is_filtered": any(asked.values()),
        "states": State.choices,
        "kinds": [(kind, kind) for kind in KINDS],
    }
    return render(request, "benchmarks/_list.html" if _partial(request) else "benchmarks/list.html", context)


@require_http_methods(["GET", "POST"])
@never_cache
def new_run(request: HttpRequest) -> HttpResponse:
    if request.method == "POST":
        form = RunForm(request.POST, user=request.user)
        if form.is_valid() and form.parameters is not None:
            user = request.user if isinstance(request.user, User) else None
            run = services.create_run(
                form.parameters,
                host=settings.HOST_NAME,
                who=request.user.get_username(),
                user=user,
                now=timezone.now(),
            )
            tasks.wake()
            return redirect("benchmark", run.pk)
        return render(request, "benchmarks/new.html", _form_context(form, request))
    initial: dict[str, Any] = {"models": request.GET.getlist("model")}
    if request.GET.get("again", "").isdecimal():
        run = get_object_or_404(Run, pk=request.GET["again"])
        initial = form_values(Parameters.model_validate(run.parameters))
    form = RunForm(user=request.user, initial=initial)
    return render(request, "benchmarks/new.html", _form_context(form, request))


def _form_context(form: RunForm, request: HttpRequest) -> dict[str, Any]:
    names = split_names(form["models"].value())
    return {
        "form": form,
        **_offer(
            request.user, form["engine"].value(), form["url"].value(), form["key_variable"].value(), names
        ),
        **_estimate(form.data if form.is_bound else None),
    }


def _offer(
    user: User | AnonymousUser, engine: str, url: str | None, key_variable: str | None, chosen: list[str]
) -> dict[str, Any]:
    """The engine's models, those that are chosen ticked; with an engine that can't be asked, why."""
    offered: list[Any] = []
    problem = ""
    if engine in for_staff() and not user.is_staff:
        problem = "Only staff may send benchmarks to another address."
    elif engine == "cloud" and not url:
        problem = "Give the address first; then its models are listed here."
    else:
        try:
            offered = engine_models(find_engine(engine, url or "", key_variable or ""))
        except BenchmarkError as error:
            problem = str(error)
    known = {model.name for model in offered}
    return {
        "offered": [
            (model, model.name in chosen or model.name.removesuffix(":latest") in chosen) for model in offered
        ],
        "gone": [name for name in chosen if name not in known and f"{name}:latest" not in known],
        "problem": problem,
        "typed": ", ".join(chosen),
    }


@require_GET
@never_cache
def model_choices(request: HttpRequest) -> HttpResponse:
    asked = request.GET
    offer = _offer(
        request.user,
        asked.get("engine", "gateway"),
        asked.get("url"),
        asked.get("key_variable"),
        asked.getlist("models"),
    )
    return render(request, "benchmarks/_models.html", offer)


@require_POST
@never_cache
def estimate(request: HttpRequest) -> HttpResponse:
    return render(request, "benchmarks/_estimate.html", _estimate(request.POST))


def _estimate(data: Any) -> dict[str, Any]:
    form = RunForm(data, ask_engine=False) if data is not None else None
    if form is None or not form.is_valid() or form.parameters is None:
        return {"estimate": None, "parameters": None}
    return {"estimate": estimate_s(form.parameters), "parameters": form.parameters}


@require_safe
@never_cache
def run_page(request: HttpRequest, run_id: int) -> HttpResponse:
    run = get_object_or_404(Run, pk=run_id)
    soon = selectors.is_summed_up_soon(run, timezone.now())
    outcome = services.sum_up(run) if run.is_over and not soon else Outcome.of(run)
    context = {
        "run": run,
        "figures_soon": soon,
        "may_change": selectors.may_change(request.user, run),
        "n_ahead": selectors.n_ahead(run) if run.state == State.QUEUED else 0,
        "baseline": selectors.baseline_for(run) if run.is_over else None,
        "report": reports.run_report(run, outcome),
    }
    return render(request, "benchmarks/_run.html" if _partial(request) else "benchmarks/run.html", context)


@require_GET
@never_cache
def run_charts(request: HttpRequest, run_id: int) -> HttpResponse:
    run = get_object_or_404(Run, pk=run_id)
    return render(
        request, "benchmarks/_charts.html", {"run": run, "charts": charts.run_charts(run, Outcome.of(run))}
    )


@require_GET
@never_cache
def compare_runs(request: HttpRequest) -> HttpResponse:
    asked = {name: request.GET.get(name, "")[:300] for name in ("a", "b")}
    sides = {name: comparisons.find_side(text) for name, text in asked.items()}
    a, b = sides["a"], sides["b"]
    context = {
        "choices": comparisons.comparison_choices(a, b),
        **sides,
        "selected": {name: side.value if side else "" for name, side in sides.items()},
        "unknown": [text for name, text in asked.items() if text and sides[name] is None],
        "comparison": comparisons.compare_sides(a, b) if a and b else None,
    }
    return render(request, "benchmarks/compare.html", context)


def _changeable(request: HttpRequest, run_id: int) -> Run:
    run = get_object_or_404(Run, pk=run_id)
    if not selectors.may_change(request.user, run):
        raise PermissionDenied
    return run


@require_POST
def cancel(request: HttpRequest, run_id: int) -> HttpResponse:
    run = _changeable(request, run_id)
    try:
        services.cancel_run(run, who=request.user.get_username(), now=timezone.now())
    except NotAllowedError as error:
        messages.warning(request, str(error))
    return redirect("benchmark", run.pk)


@require_POST
def baseline(request: HttpRequest, run_id: int) -> HttpResponse:
    run = _changeable(request, run_id)
    try:
        services.set_baseline(run, on=request.POST.get("on") == "1")
    except NotAllowedError as error:
        messages.warning(request, str(error))
    return redirect("benchmark", run.pk)


@require_http_methods(["GET", "POST"])
@never_cache
def delete(request: HttpRequest, run_id: int) -> HttpResponse:
    """Asks first: the page with the question is a page of its own."""
    run = _changeable(request, run_id)
    if request.method == "POST":
        try:
            services.delete_run(run)
        except NotAllowedError as error:
            messages.warning(request, str(error))
            return redirect("benchmark", run.pk)
        messages.success(request, f"Run {run_id} is deleted.")
        return redirect("benchmarks")
    return render(request, "benchmarks/delete.html", {"run": run})


@require_GET
def result_json(request: HttpRequest, run_id: int) -> HttpResponse:
    run = get_object_or_404(Run, pk=run_id)
    if run.is_over:
        services.sum_up(run)
    answer = JsonResponse(exports.run_as_json(run), json_dumps_params={"indent": 2})
    answer["Content-Disposition"] = f'attachment; filename="benchmark-{run.pk}.json"'
    return answer


@require_GET
def figures_csv(request: HttpRequest, run_id: int) -> HttpResponse:
    run = get_object_or_404(Run, pk=run_id)
    if run.is_over:
        services.sum_up(run)
    answer = HttpResponse(exports.figures_as_csv(run), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="benchmark-{run.pk}-figures.csv"'
    return answer


@require_GET
def requests_csv(request: HttpRequest, run_id: int) -> HttpResponse:
    run = get_object_or_404(Run, pk=run_id)
    answer = HttpResponse(exports.requests_as_csv(run), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="benchmark-{run.pk}-requests.csv"'
    return answer


def _partial(request: HttpRequest) -> bool:
    return bool(getattr(request, "htmx", False))
