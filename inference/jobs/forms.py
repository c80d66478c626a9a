"""What a person fills in to start a job; errors stand beside their field."""

from typing import Any

from django import forms
from django.core.validators import MaxValueValidator, MinValueValidator

from inference.distillation import needs
from inference.distillation.settings import Distillation
from inference.errors import JobInputError
from inference.gguf_tools.mixes import FILE_TYPES, NEED_IMPORTANCE
from inference.jobs import importance
from inference.jobs.parameters import HIGH_PRECISION, JobParameters, check, engines
from inference.models import JobKind
from inference.prompt_sets.selectors import choices
from inference.work.plan import DYNAMIC, Measures

# The product's four levels first, then llama.cpp's names.
LEVELS = {
    DYNAMIC: "Dynamic (a type per tensor, by measured sensitivity)",
    "Q4_K_M": "INT4 (Q4_K_M)",
    "Q8_0": "INT8 (Q8_0)",
    "F16": "FP16 (F16)",
}
# inference.archives has the forms of the others
KINDS = [each for each in JobKind.choices if each[0] not in {JobKind.ARCHIVE, JobKind.UNARCHIVE}]
MAKERS = [
    ("auto", "the engine where it can, else our own writer"),
    ("engine", "the engine (its create ... quantize)"),
    ("own", "our own writer (the file has to lie on this machine)"),
    ("llama-quantize", "llama-quantize (has to be on the worker's PATH)"),
]

ANSWERS = [("teacher", "the teacher's own, greedy"), ("labelled", "those of the labelled prompts")]
CHOICES = [
    ("spread", "at even distances"),
    ("measured", "by measured loss (as pruning does, a file per try)"),
]


def _label(level: str) -> str:
    return f"{level} (with an importance matrix)" if level in NEED_IMPORTANCE else level


class JobForm(forms.Form):
    """`source` is ENGINE|MODEL, so that one choice says both. After `is_valid`, `checked` holds what `create_job` takes."""

    kind = forms.ChoiceField(choices=KINDS, widget=forms.HiddenInput)
    source = forms.ChoiceField(label="Source", help_text="It is never changed.")
    level = forms.ChoiceField(label="Type", required=False)
    target = forms.CharField(
        label="Name of the variant",
        required=False,
        max_length=200,
        help_text="Empty: the source's name, the type as tag.",
    )
    maker = forms.ChoiceField(label="Made by", choices=MAKERS, required=False, initial="auto")
    importance = forms.ChoiceField(
        label="Importance matrix",
        required=False,
        help_text="Says which columns of the weights matter most in use, so that the errors lie elsewhere; the fewer the "
        "bits, the more it saves.",
    )
    calibration = forms.ChoiceField(
        label="Read for it",
        required=False,
        help_text="To collect one now: prompts, which the model answers, or a text. Nothing of it is measured with.",
    )
    budget = forms.CharField(
        label="Size budget",
        required=False,
        initial="q4_K_M",
        max_length=20,
        help_text="For Dynamic: a type (as large as that), 1500MB, or 40% of the source.",
    )
    max_loss = forms.FloatField(
        label="Or most loss",
        required=False,
        help_text="For Dynamic: the smallest file with no more KL (nats per token).",
    )
    prompts = forms.ChoiceField(label="Labelled prompts", required=False, choices=choices)
    layers = forms.IntegerField(
        label="Layers to drop",
        required=False,
        initial=1,
        help_text="Empty: as many as keep to the most loss.",
    )
    steps = forms.IntegerField(
        label="Steps", required=False, help_text="Of the student, and as many of the control."
    )
    temperature = forms.FloatField(
        label="Temperature",
        required=False,
        help_text="Of both distributions: higher shows more of what is unlikely.",
    )
    alpha = forms.FloatField(
        label="Weight of the distributions",
        required=False,
        help_text="0.01 to 1; the rest is cross-entropy with the answers.",
    )
    batch = forms.IntegerField(label="Prompts a step", required=False)
    learning_rate = forms.FloatField(
        label="Learning rate", required=False, help_text="At its highest; models above 100 M want less."
    )
    seed = forms.IntegerField(label="Seed", required=False)
    answers = forms.ChoiceField(label="Answers to learn", choices=ANSWERS, required=False)
    choice = forms.ChoiceField(label="Layers that stay", choices=CHOICES, required=False)
    n_prompts = forms.IntegerField(label="Prompts compared token by token")
    n_tokens = forms.IntegerField(label="Tokens of each")
    n_scored = forms.IntegerField(label="Labelled prompts answered")
    n_pairs = forms.IntegerField(label="Pairs of turns for the speed")
    num_predict = forms.IntegerField(label="Tokens of an answer in the speed test")
    num_ctx = forms.IntegerField(label="Context of both")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.engines = engines()
        kind = self.data.get("kind") if self.is_bound else self.initial.get("kind")
        making = kind == JobKind.QUANTIZE
        if kind == JobKind.PRUNE:
            self.fields["target"].help_text = "Empty: the source's name, pruned-N as tag."
            self.fields["max_loss"].label = "Most loss"
            self.fields["max_loss"].help_text = "KL (nats per token) that is not exceeded. Empty: no limit."
        sources = [
            (f"{each.name}|{name}", f"{name} ({tag.quantization or 'type unknown'}, {each.name})")
            for each in self.engines
            for name, tag in each.tags.items()
            if not making or tag.quantization in {"", *HIGH_PRECISION}
        ]
        self.fields["source"].choices = sources  # type: ignore[attr-defined]
        others = [name for name in FILE_TYPES if name not in LEVELS]
        levels = [*LEVELS.items(), *((name, _label(name)) for name in others)]
        self.fields["level"].choices = levels  # type: ignore[attr-defined]
        matrices = [(name, name) for name in importance.files(importance.MATRICES)]
        collected = (importance.COLLECT, "collected now, from what the model reads")
        self.fields["importance"].choices = [("", "none"), collected, *matrices]  # type: ignore[attr-defined]
        texts = [(name, f"{name} (text)") for name in importance.files(importance.TEXTS)]
        half = ("", "other half of the labelled prompts")
        self.fields["calibration"].choices = [half, *choices()[1:], *texts]  # type: ignore[attr-defined]
        self._take_ranges(Measures)
        if kind == JobKind.DISTILL:
            self._take_ranges(Distillation)
            self.fields["target"].help_text = "Empty: the source's name, distilled-N as tag."
            self.fields["layers"].label, self.fields["layers"].initial = "Layers of the student", None
            self.fields["layers"].help_text = "Fewer than the source has."
            for name in Distillation.model_fields:
                self.fields[name].required = True
        self.checked: tuple[str, str, JobParameters] | None = None

    def _take_ranges(self, model: type[Measures | Distillation]) -> None:
        """The form and the command refuse the same."""
        for name, field in model.model_fields.items():
            ends = {
                end: getattr(each, end)
                for each in field.metadata
                for end in ("ge", "le")
                if hasattr(each, end)
            }
            number = self.fields[name]
            if not field.is_required():
                number.initial = field.default
            if ends:
                number.validators += [MinValueValidator(ends["ge"]), MaxValueValidator(ends["le"])]
                number.widget.attrs.update(min=ends["ge"], max=ends["le"])

    @property
    def importance_folder(self) -> str:
        return str(importance.folder())

    def problems(self) -> list[str]:
        """Engines that did not answer, and what is not installed."""
        found = [f"{each.name}: {each.problem}" for each in self.engines if each.problem]
        if self["kind"].value() == JobKind.DISTILL and (why := needs.missing()):
            found.append(why)
        return found

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if self.errors:
            return values
        engine_kind, _, source = values["source"].partition("|")
        making = values["kind"] == JobKind.QUANTIZE
        parameters = JobParameters(
            engine_kind=engine_kind,
            level=values["level"] if making else "",
            budget=values["budget"] or "q4_K_M",
            max_loss=values["max_loss"] if values["kind"] in {JobKind.QUANTIZE, JobKind.PRUNE} else None,
            layers=values["layers"] if values["kind"] == JobKind.PRUNE else None,
            maker=(values["maker"] or "auto") if making else "auto",
            importance=values["importance"] if making else "",
            calibration=values["calibration"] if making else "",
            prompts=values["prompts"],
            distillation=Distillation(**{name: values[name] for name in Distillation.model_fields})
            if values["kind"] == JobKind.DISTILL
            else None,
            measures=Measures(**{name: values[name] for name in Measures.model_fields}),
        )
        try:
            source, target = check(values["kind"], source, values["target"].strip(), parameters)
        except JobInputError as error:
            self.add_error(error.field if error.field in self.fields else None, str(error))
        else:
            self.checked = source, target, parameters
        return values
