"""Runs in the admin, to look at and to delete; the pages under /benchmarks/ do the rest."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from benchmarks.models import Run, State


@admin.register(Run)
class RunAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = ("created_at", "who", "kind", "model_names", "state", "reason", "is_baseline")
    list_filter = ("state", "kind", "is_baseline", "host")
    search_fields = ("who", "model_names")
    date_hierarchy = "created_at"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return (
            bool(super().has_delete_permission(request, obj)) and getattr(obj, "state", None) != State.RUNNING
        )
