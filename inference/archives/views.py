"""The page of the archives."""

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from inference import tasks
from inference.archives import selectors, services
from inference.archives.forms import ArchiveForm, UnarchiveForm
from inference.errors import NotAllowedError
from inference.jobs import services as jobs
from inference.jobs.parameters import JobParameters
from inference.models import JobKind, ModelArchive, ModelJob


@require_http_methods(["GET", "POST"])
@never_cache
def archive_list(request: HttpRequest) -> HttpResponse:
    """POST: archive one more."""
    form = None
    if request.method == "POST":
        _staff_only(request)
        form = ArchiveForm(request.POST)
        if form.is_valid() and form.checked is not None:
            return redirect("job", _start(request, JobKind.ARCHIVE, *form.checked).pk)
    elif request.user.is_staff:
        form = ArchiveForm(
            initial={"model": request.GET.get("model", ""), "after": "keep", "packing": "gzip"}
        )
    archives = selectors.present()
    context = {
        "form": form,
        "archives": archives,
        "total": selectors.total(archives),
        "gone": selectors.gone(),
    }
    return render(
        request, "inference/archives.html", context, status=400 if form is not None and form.errors else 200
    )


@require_http_methods(["GET", "POST"])
@never_cache
def unarchive(request: HttpRequest, archive_id: int) -> HttpResponse:
    _staff_only(request)
    archive = _present(archive_id)
    form = UnarchiveForm(archive, request.POST if request.method == "POST" else None)
    if form.is_valid() and form.checked is not None:
        return redirect("job", _start(request, JobKind.UNARCHIVE, *form.checked).pk)
    context = {"archive": archive, "form": form}
    return render(request, "inference/archive_unarchive.html", context, status=400 if form.errors else 200)


@require_http_methods(["GET", "POST"])
@never_cache
def delete(request: HttpRequest, archive_id: int) -> HttpResponse:
    """Asks first: the page with the question is a page of its own."""
    _staff_only(request)
    archive = _present(archive_id)
    if request.method == "GET":
        return render(request, "inference/archive_delete.html", {"archive": archive})
    try:
        services.delete_archive(archive, who=request.user.get_username(), now=timezone.now())
    except NotAllowedError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, f"The archive {archive.file} is deleted.")
    return redirect("archives")


def _start(
    request: HttpRequest, kind: JobKind, source: str, target: str, parameters: JobParameters
) -> ModelJob:
    person: dict[str, Any] = {
        "who": request.user.get_username(),
        "user": request.user if isinstance(request.user, User) else None,
    }
    job = jobs.create_job(
        kind, source, target, parameters, host=settings.HOST_NAME, now=timezone.now(), **person
    )
    tasks.wake_model_worker()
    return job


def _present(archive_id: int) -> ModelArchive:
    return get_object_or_404(ModelArchive, pk=archive_id, state=ModelArchive.State.PRESENT)


def _staff_only(request: HttpRequest) -> None:
    if not request.user.is_staff:
        raise PermissionDenied("Only staff may archive models.")
