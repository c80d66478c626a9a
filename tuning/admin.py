"""Profiles are edited here; every change goes through tuning.services, so that the next request uses it."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin, TabularInline

from tuning import selectors, services
from tuning.fields import BY_NAME, FIELDS, GROUPS, shown
from tuning.forms import ModelOptionForm, ProfileForm
from tuning.model_options import MOST_PATTERNS, ModelOptions
from tuning.models import ModelOption, Profile
from tuning.views import person, teller

EFFECTIVE = ("context", "batch", "num_predict", "temperature", "memory_mb")
OPEN = "What is left open comes from the parent, else from config.yaml: the grey text and the empty choice say the value."


class ModelOptionInline(TabularInline):  # type: ignore[misc]
    """Ollama's options for single models; they are stored with the profile, in ProfileAdmin.save_related."""

    model = ModelOption
    form = ModelOptionForm
    extra = 1
    hide_title = True
    verbose_name = "option"
    max_num = 20 * MOST_PATTERNS
    verbose_name_plural = (
        "Options of single models: a request's own count before them, the most specific name first"
    )

    # Whoever may change the profile may change all of it.
    def has_add_permission(self, request: HttpRequest, obj: Profile | None = None) -> bool:
        return bool(request.user.has_perm("tuning.change_profile"))

    has_change_permission = has_delete_permission = has_view_permission = has_add_permission


@admin.register(Profile)
class ProfileAdmin(ModelAdmin):  # type: ignore[misc]
    form = ProfileForm
    inlines = (ModelOptionInline,)
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
                    "description": OPEN,
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
        """In save_related, with the rows of the inline: one change is one version."""

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        models: ModelOptions = {}
        for formset in formsets:
            formset.save(commit=False)  # finds what was added and deleted, for the admin's log
            gone = {id(each) for each in formset.deleted_forms}
            for row in formset.forms:
                if row.cleaned_data.get("option") and id(row) not in gone:
                    option: ModelOption = row.instance
                    models.setdefault(option.pattern, {})[option.option] = option.number
        services.save_profile(form.instance, by=person(request), model_options=models, told=teller(request))

    def delete_model(self, request: HttpRequest, obj: Profile) -> None:
        services.delete_profile(obj, told=teller(request))

    def has_delete_permission(self, request: HttpRequest, obj: Profile | None = None) -> bool:
        """One at a time, and only what nothing keeps."""
        return (
            obj is not None
            and services.why_kept(obj) is None
            and bool(super().has_delete_permission(request, obj))
        )
