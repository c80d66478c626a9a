"""Web sockets of the monitoring app."""

from django.urls import path

from monitoring.consumers import LiveConsumer, NewsConsumer

websocket_urlpatterns = [
    path("ws/live/", LiveConsumer.as_asgi()),
    path("ws/news/", NewsConsumer.as_asgi()),
]
