"""What the pages and the admin send."""

from typing import Any

from django import forms
from unfold.widgets import UnfoldAdminDecimalFieldWidget, UnfoldAdminTextInputWidget

from tuning import selectors
from tuning.fields import BY_NAME, in_range, shown
from tuning.model_options import OPTIONS, normal
from tuning.models import Activation, ModelOption, Profile


class ActivateForm(forms.Form):
    """`name` empty: switch all profiles off."""

    name = forms.CharField(required=False, max_length=64)
    note = forms.CharField(required=False, max_length=200)

    def clean_name(self) -> Profile | None:
        name = self.cleaned_data["name"]
        if not name:
            return None
        profile = Profile.objects.filter(name=name).first()
        if profile is None:
            raise forms.ValidationError(f"There is no profile called {name}: load the page anew.")
        return profile


class UndoForm(forms.Form):
    activation = forms.ModelChoiceField(
        Activation.objects.all(), error_messages={"invalid_choice": "There is no such activation."}
    )


class RestoreForm(forms.Form):
    """`version` empty: the shipped values."""

    version = forms.IntegerField(required=False, min_value=1)


class ContextForm(forms.Form):
    """A size of context for one model."""

    model = forms.CharField(max_length=200)
    num_ctx = forms.IntegerField()


class TagsField(forms.CharField):
    """Words with commas between them; a list in Python."""

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        return [word.strip() for word in str(value or "").split(",") if word.strip()]

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(self.to_python(self.prepare_value(initial)) != self.to_python(data))


class ProfileForm(forms.ModelForm):  # type: ignore[type-arg]
    """For the admin: what is left open shows what it comes to, and where from."""

    tags = TagsField(
        required=False, help_text="Words, with commas between them.", widget=UnfoldAdminTextInputWidget
    )

    class Meta:
        model = Profile
        fields = (
            *("name", "description", "category", "target_hardware", "target_use", "tags", "parent"),
            *BY_NAME,
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._show_inherited()

    def clean(self) -> dict[str, Any]:
        """Parents are checked here, where an error can stand beside its field."""
        cleaned = super().clean() or {}
        name = self.instance.name or cleaned.get("name")
        if name and "parent" in cleaned:
            parent = cleaned["parent"]
            wrong = selectors.parent_problem(name, parent.name if parent else None)
            if wrong is not None:
                self.add_error("parent", wrong)
        return cleaned

    def _show_inherited(self) -> None:
        """Placeholders (a select: its empty choice) say the value that holds while the field is left open."""
        inherited = selectors.inherited(self.instance if self.instance.pk else None)
        for name, field in BY_NAME.items():
            if name not in self.fields:
                continue
            effective, widget = inherited[name], self.fields[name].widget
            source = effective.source if effective.value is not None else ""
            text = shown(field, effective.value) + (f" (from {source})" if source else "")
            self.fields[name].help_text = field.acts
            choices = getattr(widget, "choices", None)
            if choices is not None:
                # Django's own empty choices: '' of a choice field, 'unknown' of a switch
                widget.choices = [
                    (value, text if value in {"", "unknown"} else label) for value, label in choices
                ]
            else:
                widget.attrs["placeholder"] = text
                self.fields[name].help_text += f" {in_range(field)}."


class ModelOptionForm(forms.ModelForm):  # type: ignore[type-arg]
    """A row of the inline; ModelOption.clean says what is wrong with it."""

    class Meta:
        model = ModelOption
        fields = ("pattern", "option", "value")
        widgets = {"value": UnfoldAdminDecimalFieldWidget(attrs={"step": "any"})}  # noqa: RUF012

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.initial["value"] = self.instance.number  # 2048 rather than 2048.0
        self.fields["pattern"].widget.attrs["placeholder"] = "llama3*"
        choices = [(name, f"{name}: {each.acts}, {in_range(each)}") for name, each in OPTIONS.items()]
        self.fields["option"].choices = [("", "choose"), *choices]  # type: ignore[attr-defined]

    def clean_pattern(self) -> str:
        return normal(self.cleaned_data["pattern"])
