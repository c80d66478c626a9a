"""Export and import as YAML: the file, what it would change, and then the change."""

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_safe

from monitoring.alerts import transfer
from monitoring.alerts.rule_views import staff_only

LISTS = {"channel": "channels", "policy": "policies", "rule": "alert-rules", "silence": "silences"}


class FileForm(forms.Form):
    file = forms.FileField(required=False, label="File", help_text="What 'Export' wrote, or the like of it")
    text = forms.CharField(
        required=False,
        strip=False,
        max_length=transfer.MOST_CHARS,
        label="Or paste it",
        widget=forms.Textarea(attrs={"rows": 14, "spellcheck": "false", "class": "mono"}),
    )

    def clean_file(self) -> str:
        file = self.cleaned_data["file"]
        if file is None:
            return ""
        if file.size > transfer.MOST_CHARS:
            raise forms.ValidationError("The file is larger than 1 MB: what 'Export' writes is not.")
        try:
            return str(file.read().decode())
        except UnicodeDecodeError as error:
            raise forms.ValidationError("The file is no text (UTF-8).") from error

    def given(self) -> str:
        return self.cleaned_data.get("file") or self.cleaned_data.get("text") or ""


@require_safe
def export(request: HttpRequest) -> HttpResponse:
    """Channels and policies are for staff, as their pages are."""
    text = transfer.write(timezone.now(), whole=request.user.is_staff)
    answer = HttpResponse(text, content_type="application/yaml; charset=utf-8")
    answer["Content-Disposition"] = 'attachment; filename="alerts.yaml"'
    return answer


@staff_only
def import_file(request: HttpRequest) -> HttpResponse:
    """First what the file would change; posted again with `sure`, it is taken."""
    if request.method != "POST":
        return render(request, "monitoring/import.html", {"form": FileForm()})
    form, who, now = FileForm(request.POST, request.FILES), request.user.get_username(), timezone.now()
    if not form.is_valid():
        return render(request, "monitoring/import.html", {"form": form})
    text = form.given()
    try:
        entries = transfer.read(text, who=who, now=now)
    except transfer.AlertsFileError as error:
        shown = FileForm(initial={"text": text})
        return render(request, "monitoring/import.html", {"form": shown, "problems": error.problems})
    changing = [each for each in entries if each.status in ("new", "changed")]
    if request.POST.get("sure") == "yes":
        n = transfer.take(entries, who=who, now=now)
        messages.success(
            request, f"Imported: {n} {'entry was' if n == 1 else 'entries were'} new or changed."
        )
        return _imported(request, changing)
    context = {
        "form": FileForm(initial={"text": text}),
        "text": text,
        "entries": changing,
        "n_same": sum(each.status == "same" for each in entries),
        "n_over": sum(each.status == "over" for each in entries),
        "compared": True,
    }
    return render(request, "monitoring/import.html", context)


def _imported(request: HttpRequest, taken: list[transfer.Entry]) -> HttpResponse:
    """To where there is something left to do, else to the list of what was taken; to the rules where it was of several."""
    to_do = [note for each in taken if each.what == "channel" for note in each.notes]
    for note in to_do:
        messages.warning(request, f"{note}.")
    kinds = {each.what for each in taken}
    if to_do:
        return redirect("channels")
    return redirect(LISTS[kinds.pop()] if len(kinds) == 1 else "alert-rules")
