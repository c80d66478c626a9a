"""Pages of engines: everyone sees them, staff changes them."""

from typing import Any

from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from inference.aliases import selectors as aliases
from inference.aliases import services as alias_services
from inference.engines import selectors, services
from inference.engines.forms import EngineForm, FallbackForm
from inference.errors import NotAllowedError
from inference.gateway.probing import Probe
from inference.models import AliasChange, Engine
from inference.pushing import Delivery, Told
from safeguards.sealing import SealError


@require_safe
@never_cache
def engines(request: HttpRequest) -> HttpResponse:
    standings, problem = selectors.standings(timezone.now())
    context = {
        "local": [each for each in standings if not each.is_cloud],
        "clouds": [each for each in standings if each.is_cloud],
        "problem": problem,
        "fallbacks": [each for each in aliases.in_force() if each.cloud],
    }
    partial = request.headers.get("HX-Request") == "true"
    return render(request, "inference/_engines.html" if partial else "inference/engines.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    _staff_only(request)
    return _edit(request, Engine())


@require_http_methods(["GET", "HEAD", "POST"])
def edit(request: HttpRequest, engine_id: int) -> HttpResponse:
    _staff_only(request)
    return _edit(request, get_object_or_404(Engine, pk=engine_id))


def _edit(request: HttpRequest, engine: Engine) -> HttpResponse:
    name = engine.name
    form = EngineForm(request.POST if request.method == "POST" else None, instance=engine, label_suffix="")
    if request.method == "POST" and form.is_valid():
        services.save_engine(
            engine, form.new_key, who=request.user.get_username(), now=timezone.now(), told=_say_to(request)
        )
        if engine.enabled:
            _say_test(request, engine.name, _test(engine))
        return redirect("engines")
    status = 400 if form.is_bound else 200
    return render(
        request, "inference/engine.html", {"form": form, "engine": engine, "name": name}, status=status
    )


@require_http_methods(["GET", "HEAD", "POST"])
def delete(request: HttpRequest, engine_id: int) -> HttpResponse:
    """Asks, then does it."""
    _staff_only(request)
    engine = get_object_or_404(Engine, pk=engine_id)
    if request.method == "POST":
        name = engine.name
        try:
            services.delete_engine(engine, who=request.user.get_username(), told=_say_to(request))
        except NotAllowedError as error:
            messages.error(request, str(error))
        else:
            messages.success(request, f"{name} is removed.")
        return redirect("engines")
    return render(request, "inference/engine_delete.html", {"engine": engine})


@require_POST
def test(request: HttpRequest) -> HttpResponse:
    """Of any engine, those of the settings too."""
    _staff_only(request)
    name = request.POST.get("engine", "")
    row, own = Engine.objects.filter(name=name).first(), selectors.address(name)
    if row is not None:
        _say_test(request, name, _test(row))
    elif own is not None:
        _say_test(request, own.label, services.ask_engine("ollama", own.url, added=False))
    else:
        messages.error(request, "engine: there is none of this name.")
    return redirect("engines")


def _test(engine: Engine) -> Probe:
    try:
        return services.ask_engine(engine.kind, engine.url, selectors.key_of(engine))
    except SealError as error:
        return Probe(f"{str(error).capitalize()}.")


def _say_test(request: HttpRequest, name: str, found: Probe) -> None:
    if found.problem:
        messages.error(request, f"{name}: {found.problem}")
        return
    n = len(found.models or ())
    version = f" version {found.version}," if found.version else ""
    some = f" ({', '.join((found.models or [])[:5])}{', …' if n > 5 else ''})" if n else ""
    messages.success(
        request,
        f"{name} answers:{version} {n} model{'' if n == 1 else 's'}{some}, {found.latency_ms or 0:.0f} ms.",
    )


@require_http_methods(["GET", "HEAD", "POST"])
def new_fallback(request: HttpRequest) -> HttpResponse:
    _staff_only(request)
    return _fallback(request, None)


@require_http_methods(["GET", "HEAD", "POST"])
def edit_fallback(request: HttpRequest, change_id: int) -> HttpResponse:
    _staff_only(request)
    return _fallback(request, get_object_or_404(AliasChange, pk=change_id))


def _fallback(request: HttpRequest, change: AliasChange | None) -> HttpResponse:
    form = FallbackForm(request.POST if request.method == "POST" else None, change=change, label_suffix="")
    if request.method == "POST" and form.is_valid():
        try:
            alias_services.set_alias(
                form.cleaned_data["name"],
                form.cleaned_data["target"],
                cloud=form.value,
                told=_say_to(request),
                **_person(request),
            )
        except NotAllowedError as error:
            form.add_error(None, str(error))
        else:
            return redirect("engines")
    context = {"form": form, "change": change}
    return render(request, "inference/fallback.html", context, status=400 if form.errors else 200)


@require_POST
def remove_fallback(request: HttpRequest, change_id: int) -> HttpResponse:
    """What answers for the name stays."""
    _staff_only(request)
    change = get_object_or_404(AliasChange, pk=change_id)
    try:
        alias_services.set_alias(
            change.name,
            aliases.target_of(change.name),
            cloud=alias_services.NO_CLOUD,
            told=_say_to(request),
            **_person(request),
        )
    except NotAllowedError as error:
        messages.error(request, str(error))
    return redirect("engines")


def _person(request: HttpRequest) -> dict[str, Any]:
    user = request.user if isinstance(request.user, User) else None
    return {"who": request.user.get_username(), "user": user, "now": timezone.now()}


def _staff_only(request: HttpRequest) -> None:
    if not request.user.is_staff:
        raise PermissionDenied("Only staff may change engines.")


def _say_to(request: HttpRequest) -> Told:
    def say(delivery: Delivery) -> None:
        (messages.success if delivery.ok else messages.warning)(request, delivery.text)

    return say
