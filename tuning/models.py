"""Profiles, their versions, and which one was in use when."""

from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.urls import reverse

from tuning.fields import BY_NAME, CATEGORIES, FIELDS, TARGET_HARDWARE, TARGET_USES, Values, problem
from tuning.model_options import OPTIONS, ModelOptions, option_problem, pattern_problem

NONE = "none"  # how a request asks for no profile


def _number(name: str) -> Any:
    """A field of the table that may be left open."""
    kind = models.PositiveIntegerField if BY_NAME[name].kind == "integer" else models.FloatField
    return kind(BY_NAME[name].label, null=True, blank=True)


def _switch(name: str) -> Any:
    return models.BooleanField(BY_NAME[name].label, null=True, blank=True)


def _choice(name: str) -> Any:
    """Empty: left open."""
    field = BY_NAME[name]
    return models.CharField(field.label, max_length=20, blank=True, choices=field.choices)


class Profile(models.Model):
    """How models are to be used: options, limits, cache, alerts. What is left open comes from the parent.

    Written through tuning.services only, so that each change leaves a version and reaches the gateway."""

    name = models.CharField(
        max_length=64,
        unique=True,
        validators=[
            RegexValidator(
                r"\A[a-z0-9][a-z0-9_.-]*\Z",
                "Use small letters, digits and _ . - only, beginning with a letter or digit.",
            )
        ],
        help_text="How requests ask for it: x-aicleaner-profile. It can't be changed later.",
    )
    description = models.CharField(max_length=300, blank=True)
    category = models.CharField(max_length=20, choices=CATEGORIES, default="custom")
    target_hardware = models.CharField(max_length=20, choices=TARGET_HARDWARE, default="any")
    target_use = models.CharField(max_length=20, choices=TARGET_USES, default="any")
    tags = models.JSONField(default=list, blank=True)
    parent = models.ForeignKey(
        "self",
        models.PROTECT,
        null=True,
        blank=True,
        related_name="children",
        help_text="What is left open here comes from there.",
    )
    context = _number("context")
    engine_batch = _number("engine_batch")
    num_predict = _number("num_predict")
    temperature = _number("temperature")
    top_p = _number("top_p")
    gpu = _switch("gpu")
    batch = _number("batch")
    cpu_percent = _number("cpu_percent")
    memory_optimization = _switch("memory_optimization")
    memory_mb = _number("memory_mb")
    gpu_memory_percent = _number("gpu_memory_percent")
    cache = _switch("cache")
    cache_ttl_min = _number("cache_ttl_min")
    alert_memory_percent = _number("alert_memory_percent")
    alert_cpu_percent = _number("alert_cpu_percent")
    alert_seconds = _number("alert_seconds")
    quantization = _choice("quantization")
    compression = _choice("compression")
    max_loss = _number("max_loss")
    predefined = models.BooleanField(default=False, editable=False)
    version = models.PositiveIntegerField(default=0, editable=False)

    class Meta:
        ordering = ("-predefined", "id")

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("profile", args=[self.name])

    def own_values(self) -> Values:
        """The fields of the table; None where left open."""
        values = {field.name: getattr(self, field.name) for field in FIELDS}
        return {name: None if value == "" else value for name, value in values.items()}

    def own_model_options(self) -> ModelOptions:
        found: ModelOptions = {}
        if self.pk:
            for each in sorted(self.model_options.all(), key=lambda each: (each.pattern, each.place)):
                found.setdefault(each.pattern, {})[each.option] = each.number
        return found

    def set_values(self, values: Values) -> None:
        """Fields of the table; those not named are left as they are."""
        for name, value in values.items():
            setattr(self, name, "" if value is None and BY_NAME[name].kind == "choice" else value)

    def snapshot(self, model_options: ModelOptions | None = None) -> dict[str, Any]:
        """All that a person can change, for a version. `model_options`: those to come; None: as they are."""
        models = self.own_model_options() if model_options is None else model_options
        return {
            "description": self.description,
            "category": self.category,
            "target_hardware": self.target_hardware,
            "target_use": self.target_use,
            "tags": list(self.tags),
            "parent": self.parent.name if self.parent else None,
            **self.own_values(),
            **({"model_options": models} if models else {}),
        }

    def clean(self) -> None:
        """Raises ValidationError by field. Whether the parents make a circle is tuning.services' to ask."""
        errors: dict[str, str] = {}
        if self.name == NONE:
            errors["name"] = f"'{NONE}' is how a request asks for no profile: choose another name."
        for name, value in self.own_values().items():
            if (wrong := problem(BY_NAME[name], value)) is not None:
                errors[name] = wrong
        if wrong := tags_problem(self.tags):
            errors["tags"] = wrong
        if errors:
            raise ValidationError(errors)


def tags_problem(tags: Any) -> str | None:
    if not isinstance(tags, list) or not all(isinstance(tag, str) and tag.strip() for tag in tags):
        return "Tags are a list of words."
    if len(tags) > 20 or any(len(tag) > 40 for tag in tags):
        return "At most 20 tags of at most 40 characters each."
    return None


class ModelOption(models.Model):
    """One option of Ollama for the models whose names fit a pattern, while the profile is in use.

    Written by tuning.services only, with the profile."""

    profile = models.ForeignKey(Profile, models.CASCADE, related_name="model_options")
    pattern = models.CharField(
        "model", max_length=200, help_text="A name, or a pattern: llama3* for all that begin so."
    )
    option = models.CharField(max_length=20, choices=[(name, name) for name in OPTIONS])
    value = models.FloatField()

    class Meta:
        ordering = ("pattern", "id")
        constraints = (
            models.UniqueConstraint(
                fields=("profile", "pattern", "option"),
                name="one_value_per_pattern_and_option",
                violation_error_message="This option of this model stands twice: keep one.",
            ),
        )

    def __str__(self) -> str:
        return f"{self.pattern}: {self.option} {self.value:g}"

    @property
    def place(self) -> int:
        return list(OPTIONS).index(self.option)

    @property
    def number(self) -> float:
        return int(self.value) if OPTIONS[self.option].kind == "integer" else self.value

    def clean(self) -> None:
        """Raises ValidationError by field."""
        errors = {}
        if wrong := pattern_problem(self.pattern):
            errors["pattern"] = wrong
        if self.option in OPTIONS and self.value is not None:
            value = int(self.value) if float(self.value).is_integer() else self.value
            if wrong := option_problem(self.option, value):
                errors["value"] = wrong
        if errors:
            raise ValidationError(errors)


class ProfileVersion(models.Model):
    """What a profile was after one change; never changed itself."""

    profile = models.ForeignKey(Profile, models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    values = models.JSONField()
    at = models.DateTimeField()
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    note = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ("-number",)
        constraints = (models.UniqueConstraint(fields=("profile", "number"), name="version_of_profile"),)

    def __str__(self) -> str:
        return f"{self.profile.name} version {self.number}"


class Activation(models.Model):
    """A profile put to use, with the values that it had then. The newest that is not undone is in use.

    Without a profile name: every profile switched off."""

    profile = models.ForeignKey(Profile, models.SET_NULL, null=True, related_name="activations")
    profile_name = models.CharField(max_length=64, blank=True)
    version = models.PositiveIntegerField(null=True)
    values = models.JSONField()  # effective, by field; empty without a profile
    sources = models.JSONField(
        default=dict
    )  # where each is from: a profile's name, or tuning.inheritance.DEFAULT
    model_options = models.JSONField(default=dict)  # effective, by pattern
    at = models.DateTimeField()
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    note = models.CharField(max_length=200, blank=True)
    previous = models.ForeignKey("self", models.SET_NULL, null=True, related_name="+")
    undone_at = models.DateTimeField(null=True)
    undone_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")

    class Meta:
        ordering = ("-id",)
        # "which one is in use": the newest that is not undone
        indexes = (
            models.Index(fields=("-id",), condition=models.Q(undone_at=None), name="activation_in_use"),
        )

    def __str__(self) -> str:
        return f"{self.label} at {self.at:%Y-%m-%d %H:%M:%S}"

    @property
    def label(self) -> str:
        return self.profile_name or NONE
