"""Events in the admin, to look at."""

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from monitoring.alerts.admin import DeliveryAdmin
from monitoring.models import Event

__all__ = ["DeliveryAdmin", "EventAdmin"]


@admin.register(Event)
class EventAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = ("at", "host", "kind", "text")
    list_filter = ("kind", "host")
    search_fields = ("text",)
    date_hierarchy = "at"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False
