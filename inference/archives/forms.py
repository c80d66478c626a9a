"""What a person fills in to pack a model away, or to bring it back."""

from collections.abc import Mapping
from typing import Any

from django import forms

from inference.errors import JobInputError
from inference.jobs.parameters import JobParameters, check, engines
from inference.models import JobKind, ModelArchive
from inference.work.plan import Packing


class _PackingForm(forms.Form):
    """After `is_valid`, `checked` holds what `create_job` takes."""

    checked: tuple[str, str, JobParameters] | None = None

    def check(
        self,
        kind: JobKind,
        engine_kind: str,
        source: str,
        target: str,
        fields: dict[str, str],
        packing: Packing = "gzip",
    ) -> None:
        """`fields`: which of the form's fields stands for one of the job's."""
        delete = self.cleaned_data["after"] == "delete"
        parameters = JobParameters(engine_kind=engine_kind, delete_after=delete, packing=packing)
        try:
            source, target = check(kind, source, target, parameters)
        except JobInputError as error:
            self.add_error(fields.get(error.field), str(error))
        else:
            self.checked = source, target, parameters


class ArchiveForm(_PackingForm):
    """`model` is ENGINE|MODEL, so that one choice says both."""

    model = forms.ChoiceField(label="Model")
    packing = forms.ChoiceField(
        label="Packed with",
        choices=[("gzip", "gzip (every tool opens it)"), ("zstd", "zstd (many times as fast)")],
        initial="gzip",
        required=False,
    )
    after = forms.ChoiceField(
        label="Afterwards",
        choices=[("keep", "keep the model"), ("delete", "delete it after the archive is verified")],
        initial="keep",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        asked = engines()
        self.problems = [f"{each.name}: {each.problem}" for each in asked if each.problem]
        self.fields["model"].choices = [  # type: ignore[attr-defined]
            (f"{each.name}|{name}", f"{name} ({tag.quantization or 'type unknown'}, {each.name})")
            for each in asked
            for name, tag in each.tags.items()
        ]

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if not self.errors:
            engine_kind, _, source = values["model"].partition("|")
            fields = {"source": "model", "engine": "model"}
            self.check(JobKind.ARCHIVE, engine_kind, source, "", fields, values["packing"] or "gzip")
        return values


class UnarchiveForm(_PackingForm):
    engine = forms.ChoiceField(label="Engine")
    target = forms.CharField(label="Name of the model", max_length=200, strip=True)
    after = forms.ChoiceField(
        label="Afterwards",
        choices=[("keep", "keep the archive"), ("delete", "delete it after the model is made")],
        initial="keep",
    )

    def __init__(self, archive: ModelArchive, data: Mapping[str, Any] | None) -> None:
        super().__init__(
            data, initial={"engine": archive.engine_kind, "target": archive.name, "after": "keep"}
        )
        self.archive = archive
        kinds = [(each.name, each.name) for each in engines() if not each.problem]
        self.fields["engine"].choices = kinds  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if not self.errors:
            same = {"target": "target", "engine": "engine"}
            self.check(JobKind.UNARCHIVE, values["engine"], self.archive.file, values["target"], same)
        return values
