"""The admin follows the viewer's zone, and no cookie can break it."""

from zoneinfo import ZoneInfo

import pytest
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from aicleaner_site.viewer_zone import COOKIE, viewer_zone


def zone_of(cookie: str | None, path: str = "/admin/auth/user/") -> str:
    request = HttpRequest()
    request.path = path
    if cookie is not None:
        request.COOKIES[COOKIE] = cookie
    answer = viewer_zone(lambda request: HttpResponse(timezone.get_current_timezone_name()))(request)
    assert isinstance(answer, HttpResponse)
    return answer.content.decode()


def test_the_cookie_names_the_zone_of_this_answer_only() -> None:
    assert zone_of("Europe%2FBerlin") == "Europe/Berlin"
    assert zone_of("Europe%2FBerlin", path="/alerts/") == "UTC"  # its pages leave the zone to the browser
    assert timezone.get_current_timezone() == ZoneInfo("UTC")


async def test_asynchronous_views_have_it_too() -> None:
    async def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(timezone.get_current_timezone_name())

    request = HttpRequest()
    request.path = "/admin/"
    request.COOKIES[COOKIE] = "Asia%2FTokyo"
    answer = viewer_zone(view)(request)
    assert not isinstance(answer, HttpResponse)
    assert (await answer).content == b"Asia/Tokyo"


@pytest.mark.parametrize(
    "cookie", [None, "", "Nowhere/Town", "../../etc/passwd", "/etc/passwd", "%00", "Europe", "x" * 5000]
)
def test_a_cookie_that_names_no_zone_means_utc(cookie: str | None) -> None:
    assert zone_of(cookie) == "UTC"
