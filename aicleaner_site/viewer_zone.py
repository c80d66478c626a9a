"""The admin shows and reads times in the viewer's zone, which static/js/theme.js leaves in a cookie.

Our own pages write <time datetime=...> and static/js/times.js shows it; the admin's lists and forms know no such thing."""

import zoneinfo
from collections.abc import Awaitable, Callable
from typing import cast
from urllib.parse import unquote

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.decorators import sync_and_async_middleware

COOKIE = "aicleaner_zone"
PATH = "/admin/"
Answer = Callable[[HttpRequest], HttpResponse]
AsyncAnswer = Callable[[HttpRequest], Awaitable[HttpResponse]]


@sync_and_async_middleware
def viewer_zone(get_response: Answer | AsyncAnswer) -> Answer | AsyncAnswer:
    if iscoroutinefunction(get_response):
        answer_later = cast("AsyncAnswer", get_response)

        async def later(request: HttpRequest) -> HttpResponse:
            with timezone.override(_zone(request)):
                return await answer_later(request)

        return later
    answer = cast("Answer", get_response)

    def now(request: HttpRequest) -> HttpResponse:
        with timezone.override(_zone(request)):
            return answer(request)

    return now


def _zone(request: HttpRequest) -> zoneinfo.ZoneInfo | None:
    """None (the server's zone, UTC) elsewhere, and where the cookie is missing or names no zone: KeyError covers both, the others
    come of names that are paths."""
    if not request.path.startswith(PATH):
        return None
    try:
        return zoneinfo.ZoneInfo(unquote(request.COOKIES[COOKIE]))
    except (KeyError, ValueError, OSError):
        return None
