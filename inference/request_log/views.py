"""Pages of the request log. Each takes the same query string: the filter."""

from collections.abc import AsyncIterator
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from inference.engines.selectors import months
from inference.models import InferenceRequest, KeptPrompt
from inference.request_log import contexts, exports, figures, listing, memory, reloads, story
from inference.request_log.filters import RequestFilter
from inference.request_log.listing import Cursor, CursorError


@require_safe
@never_cache
def requests(request: HttpRequest) -> HttpResponse:
    form = _filter(request)
    context: dict[str, Any] = _common(form)
    if form.is_valid():
        # Before the page is read: rather counted though it is shown than neither.
        last_stored = listing.last_stored()
        context["made"] = str(Cursor(form.now, last_stored))
        try:
            before, after = (_cursor(request, name) for name in ("before", "after"))
        except CursorError:
            before, after = None, None
            context["lost_place"] = True
        context["page"] = listing.page(form.requests(), before=before, after=after)
        context["is_first"] = not context["page"].newer and before is None
        context["retention_days"] = settings.REQUEST_RETENTION_DAYS
        context["keeps_prompts"] = settings.KEEP_PROMPT_BYTES
        context["prompt_hours"] = settings.PROMPT_RETENTION_HOURS
        context["most_rows"] = exports.MOST_ROWS
        context["any_at_all"] = last_stored > 0
        context["clouds"] = list(months(form.now).values())
    return render(request, "inference/requests.html", context, status=200 if form.is_valid() else 400)


@require_safe
@never_cache
def newer(request: HttpRequest) -> HttpResponse:
    """How many requests of the filter were stored since the page was made."""
    form = _filter(request)
    try:
        page_made = Cursor.parse(request.GET.get("since", ""))
    except CursorError:
        return HttpResponse(status=400)
    if not form.is_valid():
        return HttpResponse(status=400)
    n = listing.count_stored_since(form.requests(), page_made)
    return render(request, "inference/newer.html", {"n": n, "most": listing.MOST_NEW, "form": form})


@require_safe
@never_cache
def request_page(request: HttpRequest, request_id: str) -> HttpResponse:
    row = get_object_or_404(InferenceRequest, request_id=request_id)
    context = {
        "row": row,
        "parts": story.parts(row),
        "prompt": KeptPrompt.objects.filter(request=row).first(),
        "keeps_prompts": settings.KEEP_PROMPT_BYTES,
        "prompt_hours": settings.PROMPT_RETENTION_HOURS,
        "retention_days": settings.REQUEST_RETENTION_DAYS,
    }
    return render(request, "inference/request.html", context)


@require_safe
@never_cache
def figures_page(request: HttpRequest) -> HttpResponse:
    form = _filter(request)
    context = _common(form)
    if form.is_valid():
        context["figures"] = figures.figures(form.requests())
    return render(request, "inference/figures.html", context, status=200 if form.is_valid() else 400)


@require_safe
@never_cache
def reloads_page(request: HttpRequest) -> HttpResponse:
    form = _filter(request)
    context = _common(form)
    if form.is_valid():
        context["found"] = reloads.reloads(form.requests())
    return render(request, "inference/reloads.html", context, status=200 if form.is_valid() else 400)


@require_safe
@never_cache
def contexts_page(request: HttpRequest) -> HttpResponse:
    form = _filter(request)
    context = _common(form)
    if form.is_valid():
        context["found"] = contexts.contexts(form.requests())
        context["margin_percent"] = round((contexts.MARGIN - 1) * 100)
    return render(request, "inference/contexts.html", context, status=200 if form.is_valid() else 400)


@require_safe
@never_cache
async def context_memory(request: HttpRequest) -> HttpResponse:
    """What a change of num_ctx of `model` from `now` to `then` does to its memory; a line of the page of contexts."""
    sizes = [request.GET.get(name, "") for name in ("now", "then")]
    if not all(each.isdecimal() and len(each) < 8 for each in sizes):
        return HttpResponse(status=400)
    now, then = map(int, sizes)
    context: dict[str, Any] = {}
    try:
        info = await memory.model_info(request.GET.get("model", "")[:200])
        trained = memory.trained_length(info)
        context["beyond"] = trained if trained is not None and trained < then else None
        each = memory.bytes_per_token(info)
        context |= {"bytes": each * then, "bytes_now": each * now}
    except memory.UnknownMemoryError as error:
        context["unknown"] = str(error)
    return render(request, "inference/context_memory.html", context)


@require_safe
@never_cache
async def as_csv(request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
    return await _file(request, "csv", "text/csv")


@require_safe
@never_cache
async def as_json(request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
    return await _file(request, "json", "application/json")


async def _file(request: HttpRequest, ending: str, content_type: str) -> HttpResponse | StreamingHttpResponse:
    form = _filter(request)
    if not form.is_valid():
        said = form.errors.get_json_data()
        errors = {field: [each["message"] for each in found] for field, found in said.items()}
        return JsonResponse({"errors": errors}, status=400)
    found = form.requests()
    text: AsyncIterator[str]
    text = exports.as_csv(found) if ending == "csv" else exports.as_json(found, form.query)
    name = f"requests-{form.now:%Y-%m-%dT%H%M%SZ}.{ending}"
    return StreamingHttpResponse(
        text,
        content_type=f"{content_type}; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _filter(request: HttpRequest) -> RequestFilter:
    return RequestFilter(request.GET, now=timezone.now())


def _common(form: RequestFilter) -> dict[str, Any]:
    return {"form": form, "known": listing.known_names(), "valid": form.is_valid()}


def _cursor(request: HttpRequest, name: str) -> Cursor | None:
    text = request.GET.get(name, "")
    return Cursor.parse(text) if text else None
