"""Rules and deliveries in the admin: lists to find them in."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from unfold.admin import ModelAdmin

from monitoring.models import Delivery, Rule


@admin.register(Rule)
class RuleAdmin(ModelAdmin):  # type: ignore[misc]
    """Editing leads to the one form that rules have, with its preview."""

    list_display = ("name", "enabled", "kind", "series", "severity", "set_by", "note")
    list_filter = ("enabled", "kind", "severity", "set_by")
    search_fields = ("name", "series")
    actions = None

    def add_view(self, request: HttpRequest, *_: Any, **__: Any) -> HttpResponse:
        return redirect("rule-new")

    def change_view(self, request: HttpRequest, object_id: str, *_: Any, **__: Any) -> HttpResponse:
        return redirect("rule", get_object_or_404(Rule, pk=object_id if object_id.isdecimal() else None).pk)

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


@admin.register(Delivery)
class DeliveryAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = ("created_at", "key", "status", "reason", "attempts", "due_at", "last_error")
    list_filter = ("status", "channel", "event")
    date_hierarchy = "created_at"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False
