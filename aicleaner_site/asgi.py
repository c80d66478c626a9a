"""ASGI entry of the web process: pages over HTTP, `/ws/...` over web sockets; both only for who is logged in."""

import os

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "aicleaner_site.settings")
http = get_asgi_application()

from monitoring.routing import websocket_urlpatterns  # noqa: E402 - needs the apps that the line above loads

application = ProtocolTypeRouter(
    {
        "http": http,
        "websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter(websocket_urlpatterns))),
    }
)
