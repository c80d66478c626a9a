"""Profiles: looked at by everybody who is logged in, put to use by who may change them."""

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import permission_required
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from inference.errors import InferenceError
from inference.proposals import services as proposals
from inference.pushing import Delivery, Told
from inference.tasks import wake_model_worker
from tuning import pages, selectors, services, variants
from tuning.forms import ActivateForm, ContextForm, RestoreForm, UndoForm
from tuning.models import Profile
from tuning.services import TuningError

may_change = permission_required("tuning.change_profile", raise_exception=True)


@require_safe
def profiles(request: HttpRequest) -> HttpResponse:
    return render(request, "tuning/profiles.html", pages.list_page())


@require_safe
def profile(request: HttpRequest, name: str) -> HttpResponse:
    found = selectors.resolve_all().get(name)
    if found is None:
        raise Http404
    context = {
        "profile": found.profile,
        "groups": pages.rows(found),
        "models": pages.model_rows(found),
        "versions": pages.version_rows(found.profile),
        "heirs": found.profile.children.all(),
        "current": selectors.activation_in_use(),
    }
    return render(request, "tuning/profile.html", context)


@require_http_methods(["GET", "POST"])
@never_cache
def profile_variants(request: HttpRequest, name: str) -> HttpResponse:
    """What the profile asks of each model. POST: start a step of it, for a model that has no fitting variant yet."""
    found = selectors.resolve_all().get(name)
    if found is None:
        raise Http404
    wish = variants.wish_of(name, found.values)
    outlook = variants.look(wish, now=timezone.now())
    if request.method == "POST":
        return _start_step(request, found.profile, outlook)
    context = {
        "profile": found.profile,
        "rows": pages.variant_rows(outlook),
        "wish": wish,
        "problems": outlook.problems,
        "notes": pages.wish_notes(found.values),
    }
    return render(request, "tuning/_variants.html", context)


def _start_step(request: HttpRequest, profile: Profile, outlook: variants.Outlook) -> HttpResponse:
    if not request.user.is_staff:
        raise PermissionDenied("Only staff may make models.")
    asked = {name: request.POST.get(name, "") for name in ("engine_kind", "model", "kind", "what")}
    step = next((each for each in variants.steps(outlook) if asked.items() <= each.key.items()), None)
    if step is None:
        messages.error(request, "This is not to be done any more: look at what the profile asks for now.")
        return redirect(profile)
    now, user = timezone.now(), person(request)
    row = proposals.ask_again(proposals.propose(step, now=now), now=now)
    try:
        job = proposals.start(row, who=user.get_username(), user=user, now=now, told=teller(request))
    except InferenceError as error:
        messages.error(request, f"{step.model}: {error}")
        return redirect(profile)
    wake_model_worker()
    return redirect("job", job.pk) if job is not None else redirect(profile)


@require_safe
def pill(request: HttpRequest) -> HttpResponse:
    current = selectors.activation_in_use()
    return render(request, "tuning/pill.html", {"profile_label": current.label if current else "none"})


@require_POST
@may_change
def activate(request: HttpRequest) -> HttpResponse:
    form = ActivateForm(request.POST)
    if form.is_valid():
        chosen, note = form.cleaned_data["name"], form.cleaned_data["note"]
        deliveries: list[Delivery] = []
        activation = services.activate(chosen, by=person(request), note=note, told=deliveries.append)
        what = f"{activation.label} is in use." if chosen else "No profile is in use any more."
        messages.success(request, what)
        for each in deliveries:
            teller(request)(each)
    else:
        tell_errors(request, form)
    return back(request)


@require_POST
@may_change
def undo(request: HttpRequest) -> HttpResponse:
    form = UndoForm(request.POST)
    if not form.is_valid():
        tell_errors(request, form)
        return back(request)
    try:
        previous = services.undo(form.cleaned_data["activation"], by=person(request), told=teller(request))
        messages.success(request, f"Undone. In use: {previous.label if previous else 'no profile'}.")
    except TuningError as error:
        messages.error(request, str(error))
    return back(request)


@require_POST
@may_change
def restore(request: HttpRequest, name: str) -> HttpResponse:
    row = get_object_or_404(Profile, name=name)
    form = RestoreForm(request.POST)
    if not form.is_valid():
        tell_errors(request, form)
        return redirect(row)
    number = form.cleaned_data["version"]
    try:
        if number:
            version = services.restore_version(row, number, by=person(request), told=teller(request))
        else:
            version = services.restore_shipped(row, by=person(request), told=teller(request))
        messages.success(
            request,
            f"Restored, as version {version.number}." if version else "Nothing to restore: it is so already.",
        )
    except TuningError as error:
        messages.error(request, str(error))
    except ValidationError as error:
        messages.error(request, f"Not restored: {' '.join(error.messages)}")
    return redirect(row)


@require_POST
@may_change
def set_context(request: HttpRequest) -> HttpResponse:
    """The size of a model's context, in the profile in use: what the request log proposes."""
    form = ContextForm(request.POST)
    current = selectors.activation_in_use()
    row = Profile.objects.filter(name=current.profile_name).first() if current else None
    if not form.is_valid():
        tell_errors(request, form)
    elif row is None:
        messages.error(request, "No profile is in use that could hold it: put one to use first.")
        return redirect("profiles")
    else:
        model, size = form.cleaned_data["model"], form.cleaned_data["num_ctx"]
        note = f"num_ctx {size} for {model}, by what its requests need"
        try:
            version = services.set_model_option(
                row, model, "num_ctx", size, by=person(request), note=note, told=teller(request)
            )
            said = f"version {version.number} of {row.name}" if version else f"{row.name} says so already"
            messages.success(
                request, f"{model}: num_ctx {size:,}, {said}. Requests that name one keep theirs."
            )
        except ValidationError as error:
            messages.error(request, f"{model}: {' '.join(error.messages)}")
    return back(request)


def person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # the middleware lets nobody else through
    return request.user


def teller(request: HttpRequest) -> Told:
    """Shows what the gateway did with a change on the next page."""

    def told(delivery: Delivery) -> None:
        (messages.info if delivery.ok else messages.warning)(request, delivery.text)

    return told


def tell_errors(request: HttpRequest, form: forms.Form) -> None:
    for name, errors in form.errors.items():
        for error in errors:
            messages.error(request, f"{name}: {error}")


def back(request: HttpRequest) -> HttpResponseRedirect:
    """To the page of ours that the form stood on."""
    address: Any = request.POST.get("next", "")
    if url_has_allowed_host_and_scheme(address, {request.get_host()}):
        return HttpResponseRedirect(address)
    return redirect("profiles")
