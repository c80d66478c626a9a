"""ASGI entry of the web process: pages over HTTP, `/ws/...` over web sockets; both only for who is logged in."""

import os
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

from channels.auth import AuthMiddleware
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from channels.sessions import CookieMiddleware
from django.conf import settings
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aicleaner_site.settings")
http = get_asgi_application()

from monitoring.routing import websocket_urlpatterns  # noqa: E402 - needs the apps that the line above loads


def session_of_cookie(inner: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """The session for AuthMiddleware to read. Channels' own middleware asks it before each message that a socket sends
    whether it has to be stored; no socket of ours writes one."""
    store = import_module(settings.SESSION_ENGINE).SessionStore

    async def with_session(scope: dict[str, Any], receive: Any, send: Any) -> None:
        key = scope["cookies"].get(settings.SESSION_COOKIE_NAME)
        await inner({**scope, "session": store(key)}, receive, send)

    return with_session


sockets = CookieMiddleware(session_of_cookie(AuthMiddleware(URLRouter(websocket_urlpatterns))))
application = ProtocolTypeRouter({"http": http, "websocket": AllowedHostsOriginValidator(sockets)})
