"""The page, its data and its files; all take the same query string."""

import time
from collections.abc import Callable
from urllib.parse import urlencode

import orjson
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from monitoring.analysis.speeds import explanations
from monitoring.history import exports, selectors
from monitoring.history.parameters import COMPARISONS, RANGES, View, ViewForm, iso

# Fetched with the page: as imports of imports they would come one round trip after the other.
MODULES = (
    *(
        f"js/history/{name}.js"
        for name in ("charts", "lane", "picker", "picture", "pointer", "scale", "state")
    ),
    *(
        "js/history/speeds.js",
        "js/history/table.js",
        "js/history/traces.js",
        "js/plots.js",
        "js/live/dom.js",
        "js/live/format.js",
    ),
)

KEPT = (
    "host",
    "series",
    "compare",
    "band",
)  # by who chooses another time where the page's JavaScript does not


@require_safe
def page(request: HttpRequest) -> HttpResponse:
    form = _form(request)
    valid = form.is_valid()
    names = form.catalogue
    kept = [(name, value) for name in KEPT for value in request.GET.getlist(name)]
    context = {
        "form": form,
        "kept": kept,
        "kept_query": urlencode(kept),
        "from_field": form["from"],
        "to_field": form["to"],
        "other_errors": [
            form.errors[each]
            for each in ("range", "host", "series", "compare", "band")
            if each in form.errors
        ],
        "ranges": RANGES,
        "modules": MODULES,
        "names": names,
        "metrics": selectors.metrics(names),
        "state": _state(form.view()) if valid else None,
    }
    return render(request, "monitoring/history.html", context)


@require_safe
@never_cache
def data(request: HttpRequest) -> HttpResponse:
    """400 with `{"errors": {FIELD: [sentences]}}` for what can't be asked."""
    return _answer(request, lambda view, now: _json(selectors.charts(view, now)))


@require_safe
@never_cache
def speeds(request: HttpRequest) -> HttpResponse:
    """HTML: of each model that generated something in the view, how fast it was against before, and why."""

    def answer(view: View, now: float) -> HttpResponse:
        earlier = COMPARISONS[view.compare][0] if view.compare else ""
        found = [
            (host, each)
            for host in view.hosts
            for each in explanations(
                host, view.start, view.end, now=now, earlier_s=view.earlier_s, earlier=earlier
            )
        ]
        context = {"found": found, "several_hosts": len(view.hosts) > 1}
        return render(request, "monitoring/speeds.html", context)

    return _answer(request, answer)


@require_safe
@never_cache
def as_csv(request: HttpRequest) -> HttpResponse:
    return _answer(request, lambda view, now: _file(view, "csv", "text/csv", exports.as_csv(view, now)))


@require_safe
@never_cache
def as_json(request: HttpRequest) -> HttpResponse:
    return _answer(
        request, lambda view, now: _file(view, "json", "application/json", exports.as_json(view, now))
    )


def _form(request: HttpRequest) -> ViewForm:
    return ViewForm(
        request.GET, catalogue=selectors.catalogue(), own_host=settings.HOST_NAME, now=time.time()
    )


def _answer(request: HttpRequest, answer: Callable[[View, float], HttpResponse]) -> HttpResponse:
    form = _form(request)
    if not form.is_valid():
        said = form.errors.get_json_data()
        errors = {field: [each["message"] for each in found] for field, found in said.items()}
        return JsonResponse({"errors": errors}, status=400)
    return answer(form.view(), form.now)


def _json(found: object) -> HttpResponse:
    text = orjson.dumps(found, option=orjson.OPT_SERIALIZE_NUMPY)  # NaN as null
    return HttpResponse(text, content_type="application/json")


def _file(view: View, ending: str, content_type: str, text: str | bytes) -> HttpResponse:
    name = f"history-{iso(view.start)}-{iso(view.end)}.{ending}".replace(":", "")
    return HttpResponse(
        text,
        content_type=f"{content_type}; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _state(view: View) -> dict[str, object]:
    """What the page begins with; the same as its query string would say it."""
    times = {"range": view.range} if view.range else {"from": view.start, "to": view.end}
    return {
        **times,
        "hosts": view.hosts,
        "series": view.series,
        "compare": view.compare,
        "band": view.band,
    }
