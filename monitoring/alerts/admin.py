"""Rules and silences in the admin; changes go through the services."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest
from django.utils import timezone
from unfold.admin import ModelAdmin

from monitoring.alerts import selectors, services
from monitoring.models import Delivery, Rule


@admin.register(Rule)
class RuleAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = ("name", "enabled", "series", "condition", "severity", "set_by", "note")
    list_filter = ("enabled", "severity", "set_by")
    search_fields = ("name", "series")
    readonly_fields = ("set_by", "note", "updated_at")
    fieldsets = (
        (None, {"fields": ("name", "enabled", "severity", "advice")}),
        ("What is looked at", {"fields": ("series", "aggregate", "window_s", "divisor", "min_count")}),
        (
            "When it fires and clears",
            {"fields": ("above", "fire_at", "clear_at", "critical_at", "for_s", "keep_firing_for_s")},
        ),
        ("Missing data", {"fields": ("no_data", "no_data_for_s")}),
        ("Notices", {"fields": ("cooldown_s", "repeat_s")}),
        ("Set by", {"fields": ("set_by", "note", "updated_at")}),
    )

    def save_model(self, request: HttpRequest, obj: Rule, form: "ModelForm[Rule]", change: bool) -> None:
        services.save_rule(obj, request.user.get_username(), timezone.now())
        there, alike = selectors.series_like(obj)
        if not there:
            hint = f" Metrics with like names: {', '.join(alike)}." if alike else ""
            messages.warning(request, f"No stored series fits '{obj.series}' so far.{hint}")

    def delete_model(self, request: HttpRequest, obj: Rule) -> None:
        services.delete_rule(obj, request.user.get_username(), timezone.now())

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Rule]) -> None:
        for rule in queryset.filter(key=None):
            self.delete_model(request, rule)

    def has_delete_permission(self, request: HttpRequest, obj: Rule | None = None) -> bool:
        """A default rule is switched off, not deleted: the next start would create it anew."""
        return (obj is None or obj.key is None) and super().has_delete_permission(request, obj)


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
