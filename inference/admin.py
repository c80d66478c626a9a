"""Requests in the admin: to look at, not to change."""

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from inference.models import InferenceRequest
from inference.templatetags.inference import UNKNOWN, ms


@admin.register(InferenceRequest)
class InferenceRequestAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = (
        "at",
        "model",
        "kind",
        "status",
        "total",
        "first_token",
        "output_tokens",
        "speed",
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

    @admin.display(description="total", ordering="total_ms")
    def total(self, request: InferenceRequest) -> str:
        return ms(request.total_ms)

    @admin.display(description="first token", ordering="ttft_ms")
    def first_token(self, request: InferenceRequest) -> str:
        return ms(request.ttft_ms)

    @admin.display(description="tokens/s")
    def speed(self, request: InferenceRequest) -> str:
        return UNKNOWN if request.tokens_per_s is None else f"{request.tokens_per_s:.1f}"
