"""Web sockets of the monitoring app."""

from django.urls import URLPattern

websocket_urlpatterns: list[URLPattern] = []
