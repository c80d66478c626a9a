"""Requests in the admin: to look at, not to change."""

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from inference.models import InferenceRequest


@admin.register(InferenceRequest)
class InferenceRequestAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = (
        "at",
        "model",
        "kind",
        "status",
        "total_ms",
        "ttft_ms",
        "output_tokens",
        "client",
        "error",
    )
    list_filter = ("status", "kind", "model", "engine_kind")
    search_fields = ("model", "client", "request_id")
    date_hierarchy = "at"
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False
