"""The page of the labelled prompt sets."""

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from inference.errors import JobInputError, NotAllowedError
from inference.models import PromptSet
from inference.models.prompt_set import SHIPPED
from inference.prompt_sets import selectors, services
from inference.quality.labelled import MAX_BYTES, MAX_PROMPTS, parse

N_SHOWN = 20


class UploadForm(forms.Form):
    name = forms.CharField(
        label="Name", max_length=60, required=False, help_text="Empty: the file's name without its ending."
    )
    file = forms.FileField(
        label="File of JSON lines",
        help_text=f"{MAX_PROMPTS:,} prompts and {MAX_BYTES // 2**20} MiB at most.",
        widget=forms.ClearableFileInput(attrs={"accept": ".jsonl,.json,.txt,.ndjson"}),
    )


@require_http_methods(["GET", "POST"])
@never_cache
def prompt_list(request: HttpRequest) -> HttpResponse:
    form = UploadForm()
    if request.method == "POST":
        _staff_only(request)
        form = UploadForm(request.POST, request.FILES)
        if form.is_valid() and (added := _add(request, form)) is not None:
            messages.success(request, f"The set {added.name} has {added.n} prompts.")
            return redirect("prompt-sets")
    context = {
        "form": form,
        "shipped": selectors.shipped(),
        "sets": PromptSet.objects.defer("text"),
    }
    return render(request, "inference/prompt_sets.html", context, status=400 if form.errors else 200)


def _add(request: HttpRequest, form: UploadForm) -> PromptSet | None:
    file = form.cleaned_data["file"]
    name = form.cleaned_data["name"] or file.name.rpartition(".")[0] or file.name
    try:
        raw = file.read(MAX_BYTES + 1)
        return services.add_prompts(name, raw, who=request.user.get_username(), now=timezone.now())
    except JobInputError as error:
        form.add_error(error.field, str(error))
        return None


@require_safe
@never_cache
def prompt_page(request: HttpRequest, name: str) -> HttpResponse:
    """Some of its prompts, to look at."""
    if name == SHIPPED:
        found, row = list(selectors.shipped().labelled), None
    else:
        row = get_object_or_404(PromptSet, name=name)
        found = parse(row.text)
    context = {"name": name, "row": row, "n": len(found), "shown": found[:N_SHOWN]}
    return render(request, "inference/prompt_set.html", context)


@require_POST
def delete(request: HttpRequest, name: str) -> HttpResponse:
    _staff_only(request)
    row = get_object_or_404(PromptSet, name=name)
    try:
        services.delete_prompts(row)
    except NotAllowedError as error:
        messages.error(request, str(error))
        return redirect("prompt-set", name)
    messages.success(request, f"The set {name} is deleted. What was measured with it keeps its name.")
    return redirect("prompt-sets")


def _staff_only(request: HttpRequest) -> None:
    if not request.user.is_staff:
        raise PermissionDenied("Only staff may change prompt sets.")
