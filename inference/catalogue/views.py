"""Pages of models. Whoever is logged in may load and unload; what changes the disk is for staff."""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from inference.catalogue import pulls, selectors, services, tasks, uses
from inference.catalogue.clouds import cloud_models
from inference.catalogue.details import details_of
from inference.catalogue.engine import NO_REGISTRY, EngineApi
from inference.catalogue.forms import KEEP, CopyForm, DeleteForm, FilterForm, KeepForm, ModelForm, PullForm
from inference.catalogue.listing import shown
from inference.catalogue.memory import memory_state
from inference.engines.selectors import EngineAddress, address
from inference.errors import InferenceError
from inference.models import ActionState, ModelAction, ModelPull
from inference.names import full_name
from inference.proposals.selectors import n_open

LOG_LINES, LOG_PAGE = 8, 50


@require_safe
@never_cache
def model_list(request: HttpRequest) -> HttpResponse:
    return _list_page(request)


def _list_page(request: HttpRequest, pull_form: PullForm | None = None) -> HttpResponse:
    """`pull_form`: what came back with errors."""
    now = timezone.now()
    form = FilterForm(request.GET, label_suffix="")
    asked = form.cleaned_data if form.is_valid() else {}
    states, memory = selectors.engine_states(), memory_state()
    every = selectors.entries(states, memory, now)
    loaded = [each for each in every if each.loaded is not None]
    context = {
        "form": form,
        "pull_form": pull_form or PullForm(),
        "entries": shown(every, **{name: asked.get(name) or "" for name in ("q", "engine", "state", "sort")}),
        "is_filtered": any(asked.get(name) for name in ("q", "engine", "state")),
        "n_models": len(every),
        # A cloud tells nothing that the other filters ask for.
        "clouds": []
        if asked.get("engine") or asked.get("state")
        else cloud_models(now, q=asked.get("q") or ""),
        "n_proposals": n_open(),
        "loaded": loaded,
        "loaded_bytes": sum(each.loaded.memory_bytes for each in loaded if each.loaded),
        "loaded_vram": sum(each.loaded.vram_bytes for each in loaded if each.loaded),
        "biggest": max((each.loaded.size_bytes for each in loaded if each.loaded), default=0),
        "states": states,
        "memory": memory,
        "pulls": selectors.pulls_to_show(now),
        "events": selectors.events()[:LOG_LINES],
        "no_registry": NO_REGISTRY,
    }
    return render(request, "inference/models.html", context)


@require_safe
@never_cache
def model_log(request: HttpRequest) -> HttpResponse:
    asked = {name: request.GET.get(name, "").strip()[:200] for name in ("model", "state", "kind")}
    context = {
        "page": Paginator(selectors.events(**asked), LOG_PAGE).get_page(request.GET.get("page")),
        "asked": asked,
        "is_filtered": any(asked.values()),
        "states": ActionState.choices,
        "kinds": ModelAction.choices,
    }
    return render(request, "inference/model_log.html", context)


@require_safe
@never_cache
def model_page(request: HttpRequest, engine_name: str, name: str) -> HttpResponse:
    return _model_page(request, engine_name, name)


def _model_page(request: HttpRequest, kind: str, name: str, **forms: Any) -> HttpResponse:
    """`forms`: those that came back with errors."""
    engine, now = address(kind), timezone.now()
    if engine is None:
        raise Http404(f"There is no engine {kind}.")
    if full_name(name) != name:
        return redirect("model", kind, full_name(name))
    state, memory = selectors.engine_state(engine), memory_state()
    entry = next((each for each in selectors.entries([state], memory, now) if each.name == name), None)
    details, problem = None, state.problem
    if entry is not None:
        try:
            with EngineApi(engine) as api:
                details = details_of(api.show(name))
        except InferenceError as error:
            problem = str(error)
    given = {"engine": kind, "model": name}
    context = {
        "engine": engine,
        "name": name,
        "entry": entry,
        "details": details,
        "problem": problem,
        "clients": selectors.clients_of((kind, name), now),
        "events": selectors.events_of((kind, name))[:LOG_LINES],
        "copy_form": CopyForm(initial=given),
        "keep_form": KeepForm(initial={**given, "keep": "2h"}),
        **forms,
    }
    return render(request, "inference/model.html", context, status=200 if entry or problem else 404)


Done = Callable[[HttpRequest, EngineAddress, str], None]


def _act(request: HttpRequest, form: ModelForm, do: Done) -> HttpResponse | None:
    """Do it and lead back; None when the form is wrong. What went wrong with the engine is said on the next page."""
    if not form.is_valid():
        return None
    engine = address(form.cleaned_data["engine"])
    assert engine is not None  # the form's choices are the engines
    name = form.cleaned_data["model"]
    try:
        do(request, engine, name)
    except InferenceError as error:
        messages.error(request, str(error))
    return _back(request, engine.name, name)


def _back(request: HttpRequest, kind: str, name: str) -> HttpResponseRedirect:
    target = request.POST.get("next", "")
    if not url_has_allowed_host_and_scheme(target, allowed_hosts={request.get_host()}):
        target = reverse("model", args=(kind, name))
    return HttpResponseRedirect(target)


def _wrong(request: HttpRequest, form: ModelForm) -> HttpResponse:
    """A form that our pages don't send."""
    for field, errors in form.errors.items():
        messages.error(request, f"{field}: {' '.join(map(str, errors))}")
    return redirect("models")


@require_POST
def load(request: HttpRequest) -> HttpResponse:
    def do(request: HttpRequest, engine: EngineAddress, name: str) -> None:
        who = request.user.get_username()
        tasks.send_load(services.ask_to_load(engine, name, who=who, now=timezone.now()))

    form = ModelForm(request.POST)
    return _act(request, form, do) or _wrong(request, form)


@require_POST
def unload(request: HttpRequest) -> HttpResponse:
    def do(request: HttpRequest, engine: EngineAddress, name: str) -> None:
        who = request.user.get_username()
        messages.success(request, services.unload_model(engine, name, who=who, now=timezone.now()))

    form = ModelForm(request.POST)
    return _act(request, form, do) or _wrong(request, form)


@require_POST
def keep(request: HttpRequest) -> HttpResponse:
    form = KeepForm(request.POST)

    def do(request: HttpRequest, engine: EngineAddress, name: str) -> None:
        seconds, words = KEEP[form.cleaned_data["keep"]]
        who = request.user.get_username()
        services.keep_model(engine, name, seconds, words, who=who, now=timezone.now())
        messages.success(request, f"{name} is kept: {words}.")

    return _act(request, form, do) or _wrong(request, form)


@require_POST
def copy(request: HttpRequest) -> HttpResponse:
    _only_staff(request)
    form = CopyForm(request.POST)

    def do(request: HttpRequest, engine: EngineAddress, name: str) -> None:
        target = form.cleaned_data["target"]
        services.copy_model(engine, name, target, who=request.user.get_username(), now=timezone.now())
        messages.success(request, f"{name} is copied to {target}.")

    answer = _act(request, form, do)
    if answer is not None:
        return answer
    if form.cleaned_data.get("engine") and form.cleaned_data.get("model"):
        return _model_page(request, form.cleaned_data["engine"], form.cleaned_data["model"], copy_form=form)
    return _wrong(request, form)


@require_http_methods(["GET", "POST"])
@never_cache
def delete(request: HttpRequest) -> HttpResponse:
    """Asks first: the page with the question is a page of its own."""
    _only_staff(request)
    if request.method == "GET":
        which = ModelForm(request.GET)
        if not which.is_valid():
            return _wrong(request, which)
        form = DeleteForm(initial=which.cleaned_data)
        kind, name = which.cleaned_data["engine"], which.cleaned_data["model"]
    else:
        form = DeleteForm(request.POST)
        kind, name = request.POST.get("engine", ""), request.POST.get("model", "")
        if form.is_valid():
            engine = address(form.cleaned_data["engine"])
            assert engine is not None
            try:
                services.delete_model(
                    engine,
                    form.cleaned_data["model"],
                    who=request.user.get_username(),
                    now=timezone.now(),
                )
            except InferenceError as error:
                messages.error(request, str(error))
                return redirect("model", engine.name, form.cleaned_data["model"])
            messages.success(request, f"{form.cleaned_data['model']} is deleted.")
            return redirect("models")
        if "engine" in form.errors or "model" in form.errors:
            return _wrong(request, form)
    context = {"form": form, "kind": kind, "name": name, "in_use": uses.use_now(kind, name)}
    return render(request, "inference/model_delete.html", context)


@require_POST
def pull(request: HttpRequest) -> HttpResponse:
    _only_staff(request)
    form = PullForm(request.POST)
    if not form.is_valid():
        return _list_page(request, form)
    engine = address(form.cleaned_data["engine"])
    assert engine is not None
    try:
        pulls.create_pull(
            engine,
            form.cleaned_data["model"],
            host=settings.HOST_NAME,
            who=request.user.get_username(),
            now=timezone.now(),
        )
    except InferenceError as error:
        messages.error(request, str(error))
    else:
        tasks.wake_puller()
    return redirect("models")


@require_POST
def cancel_pull(request: HttpRequest, pull_id: int) -> HttpResponse:
    _only_staff(request)
    try:
        pulls.cancel_pull(
            get_object_or_404(ModelPull, pk=pull_id), who=request.user.get_username(), now=timezone.now()
        )
    except InferenceError as error:
        messages.warning(request, str(error))
    return redirect("models")


def _only_staff(request: HttpRequest) -> None:
    if not getattr(request.user, "is_staff", False):
        raise PermissionDenied
