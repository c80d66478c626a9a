"""Profiles are edited here; every change goes through tuning.services, so that the next request uses it."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from tuning import selectors, services
from tuning.fields import BY_NAME, FIELDS, GROUPS, VARIANT, shown
from tuning.forms import ProfileForm
from tuning.models import Profile
from tuning.views import person, teller

EFFECTIVE = ("context", "batch", "num_predict", "temperature", "memory_mb")
OPEN = "What is left open comes from the parent, else from config.yaml: the grey text and the empty choice say the value."
NOT_YET = "Kept for later: these act once there are variants of the models. Nothing is switched by them now."


@admin.register(Profile)
class ProfileAdmin(ModelAdmin):  # type: ignore[misc]
    form = ProfileForm
    list_filter = ("category", "target_hardware", "target_use", "predefined")
    search_fields = ("name", "description")
    list_select_related = ("parent",)
    list_display_links = ("name",)
    actions = None
    fieldsets = (
        (None, {"fields": ("name", "description", "category", "parent", "tags")}),
        *(
            (
                group,
                {
                    "fields": tuple(field.name for field in FIELDS if field.group == group),
                    "description": NOT_YET if group == VARIANT else OPEN,
                },
            )
            for group in GROUPS
        ),
        ("Meant for", {"fields": ("target_hardware", "target_use")}),
    )

    def get_list_display(self, request: HttpRequest) -> tuple[Any, ...]:
        """With the effective values, worked out once for all rows."""
        resolved, current = selectors.resolve_all(), selectors.activation_in_use()

        def in_use(profile: Profile) -> str:
            return "in use" if current is not None and current.profile_id == profile.pk else ""

        def column(name: str) -> Callable[[Profile], str]:
            def effective(profile: Profile) -> str:
                each = resolved[profile.name].fields[name]
                text = shown(BY_NAME[name], each.value)
                return text if each.source == profile.name else f"{text} ({each.source})"

            effective.short_description = BY_NAME[name].label  # type: ignore[attr-defined]
            effective.__name__ = f"effective_{name}"
            return effective

        return ("name", in_use, "category", "parent", *map(column, EFFECTIVE), "version")

    def get_readonly_fields(self, request: HttpRequest, obj: Profile | None = None) -> tuple[str, ...]:
        return ("name",) if obj is not None else ()

    def save_model(self, request: HttpRequest, obj: Profile, form: Any, change: bool) -> None:
        services.save_profile(obj, by=person(request), told=teller(request))

    def delete_model(self, request: HttpRequest, obj: Profile) -> None:
        services.delete_profile(obj, told=teller(request))

    def has_delete_permission(self, request: HttpRequest, obj: Profile | None = None) -> bool:
        """One at a time, and only what nothing keeps."""
        return (
            obj is not None
            and services.why_kept(obj) is None
            and bool(super().has_delete_permission(request, obj))
        )
