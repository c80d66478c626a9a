"""The form of a new run: every mistake is said beside its field, nothing typed is lost."""

from typing import Any

from django import forms
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import ValidationError
from django.http import QueryDict
from django.utils.datastructures import MultiValueDict

from benchmarks.addresses import KEY_VARIABLE, KEY_VARIABLE_HELP
from benchmarks.engines import check_models, choices, engine_models, find_engine, for_staff
from benchmarks.errors import AddressError, EngineError, KeyVariableError, UnknownModelError
from benchmarks.parameters import MAX_CONCURRENCY, MAX_MODELS, MAX_REQUESTS, MAX_ROUNDS, MAX_TOTAL, Parameters
from benchmarks.plans import problems

KINDS = {
    "latency": "Latency: one request after the other",
    "throughput": "Throughput: a fixed number of requests at a time",
    "load": "Load: simulated users who pause, or arrivals at a rate",
}
PROMPTS = {
    "mixed": "Mixed: both of the below, and what changed in a room",
    "task_generation": "Task generation: a room's description comes in, a task list goes out",
    "image_analysis": "Image analysis: a picture and a question (the model has to see)",
    "lengths": "Texts of a given length",
}


def split_names(value: Any) -> list[str]:
    words = value if isinstance(value, list) else [value or ""]
    names = [name.strip() for word in words for name in str(word).replace("\n", ",").split(",")]
    return list(dict.fromkeys(name for name in names if name))


class ModelNamesField(forms.Field):
    """One or more names: ticked boxes, or a text with names separated by commas or lines."""

    widget = forms.SelectMultiple

    def to_python(self, value: Any) -> list[str]:
        return split_names(value)

    def validate(self, value: list[str]) -> None:
        super().validate(value)
        if len(value) > MAX_MODELS:
            raise ValidationError(f"At most {MAX_MODELS} models in one run; this is {len(value)}.")
        if too_long := next((name for name in value if len(name) > 200), None):
            raise ValidationError(f"No model has a name this long: {too_long[:40]}…")


def _number(
    low: int, high: int, initial: int | None, label: str, help_text: str = "", **kwargs: Any
) -> forms.IntegerField:
    return forms.IntegerField(
        label=label,
        min_value=low,
        max_value=high,
        initial=initial,
        required=initial is not None,
        help_text=help_text,
        **kwargs,
    )


def _decimal(
    low: float, high: float, initial: float | None, label: str, help_text: str = ""
) -> forms.FloatField:
    field = forms.FloatField(
        label=label,
        min_value=low,
        max_value=high,
        initial=initial,
        required=initial is not None,
        help_text=help_text,
    )
    field.widget.attrs["step"] = "any"
    return field


class RunForm(forms.Form):
    """`ask_engine=False` leaves out the questions to the engine: for the estimate, which is asked at each keystroke."""

    engine = forms.ChoiceField(choices=lambda: list(choices().items()), initial="gateway")
    url = forms.CharField(
        label="Address",
        required=False,
        max_length=300,
        help_text="As an OpenAI client takes it, e.g. https://api.openai.com/v1",
    )
    key_variable = forms.CharField(
        label="Variable with the API key",
        required=False,
        max_length=80,
        help_text="Name of an environment variable of the product, e.g. OPENAI_API_KEY. The key is never typed here nor kept.",
    )
    models = ModelNamesField(error_messages={"required": "Choose one model or more."})
    kind = forms.ChoiceField(choices=list(KINDS.items()), initial="latency", widget=forms.RadioSelect)
    concurrency = _number(
        1,
        MAX_CONCURRENCY,
        4,
        "Requests at a time, or users",
        "How many streams the engine has to serve at once.",
    )
    think_time_s = _decimal(
        0, 600, 1, "Pause of a user (s)", "Mean time between an answer and the same user's next request."
    )
    rate_per_s = _decimal(
        0.01,
        1000,
        None,
        "Arrivals per second",
        "Instead of users: requests come at this rate, answered or not.",
    )
    prompts = forms.ChoiceField(
        choices=list(PROMPTS.items()), initial="task_generation", widget=forms.RadioSelect
    )
    prompt_tokens = _number(1, 100_000, None, "Prompt length (tokens)")
    output_tokens = _number(1, 100_000, None, "Answer length (tokens)")
    n_requests = _number(
        1, MAX_REQUESTS, 10, "Requests per round", "Ten or more for a comparison; a p95 needs 100 in all."
    )
    n_rounds = _number(
        1, MAX_ROUNDS, 6, "Rounds", "Six or more for a comparison: the round is what is compared."
    )
    n_warmup = _number(
        3,
        1000,
        None,
        "Warm-up per round",
        "Requests before each round that do not count; empty: as many as it takes.",
    )
    timeout_s = _decimal(
        1, 3600, 120, "Time limit of a request (s)", "A request that takes longer counts as an error."
    )
    num_predict = _number(
        1, 100_000, 64, "num_predict", "Most tokens of an answer; equal lengths make figures comparable."
    )
    num_ctx = _number(1, 1_048_576, None, "num_ctx", "Context length; empty: the engine's own.")
    temperature = _decimal(0, 2, 0, "temperature", "0 makes answers repeatable.")
    seed = _number(0, 2**31 - 1, 0, "Seed", "The same seed sends the same prompts.")
    slo_ttft_ms = _decimal(1, 3_600_000, None, "First token within (ms)")
    slo_total_ms = _decimal(1, 3_600_000, None, "Whole answer within (ms)")
    slo_tpot_ms = _decimal(0.01, 3_600_000, None, "Each further token within (ms)")

    def __init__(
        self,
        data: QueryDict | MultiValueDict[str, Any] | None = None,
        *,
        user: User | AnonymousUser | None = None,
        ask_engine: bool = True,
        **kwargs: Any,
    ) -> None:
        self.is_key_typed = False
        if data is not None and (given := data.get("key_variable", "").strip()):
            # Likely the key itself: it must neither come back in the page nor go anywhere else.
            self.is_key_typed = not KEY_VARIABLE.fullmatch(given)
            if self.is_key_typed:
                data = data.copy()
                data["key_variable"] = ""
        super().__init__(data, **kwargs)
        self.user, self.ask_engine = user, ask_engine
        self.parameters: Parameters | None = None
        for name in ("engine", "concurrency", "think_time_s", "seed", "num_predict", "temperature"):
            self.fields[name].required = name == "engine"

    def for_staff(self) -> list[str]:
        return for_staff()

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        self._clean_engine(cleaned)
        if cleaned.get("prompts") == "lengths":
            for name in ("prompt_tokens", "output_tokens"):
                if name in cleaned and cleaned[name] is None:
                    self.add_error(name, "Give a length, or choose one of the prompt sets.")
        counted = cleaned.get("kind") != "latency" and not cleaned.get("rate_per_s")
        if counted and cleaned.get("concurrency", 1) is None:
            self.add_error("concurrency", "Give a number.")
        total = (
            (cleaned.get("n_requests") or 0)
            * (cleaned.get("n_rounds") or 0)
            * len(cleaned.get("models") or ())
        )
        if total > MAX_TOTAL:
            self.add_error(
                "n_requests",
                f"{total} requests in all are more than {MAX_TOTAL}: fewer requests, rounds or models.",
            )
        if not self.errors:
            parameters = parameters_of(cleaned)
            for field, text in problems(parameters):
                self.add_error(field if field in self.fields else None, text)
            self.parameters = None if self.errors else parameters
        return cleaned

    def _clean_engine(self, cleaned: dict[str, Any]) -> None:
        """The address, the key and the models, each error at its field."""
        name = cleaned.get("engine")
        if name is None:
            return
        if name in for_staff() and self.user is not None and not self.user.is_staff:
            self.add_error("engine", "Only staff may send benchmarks to another address.")
            return
        if name == "cloud":
            if not cleaned.get("url"):
                if "url" in cleaned:
                    self.add_error("url", "Give the address of the server.")
                return
            if self.is_key_typed:
                self.add_error("key_variable", KEY_VARIABLE_HELP)
                return
        if not self.ask_engine:
            return
        try:
            engine = find_engine(name, cleaned.get("url", ""), cleaned.get("key_variable", ""))
            found = engine_models(engine)
            if "models" in cleaned:
                chosen = check_models(tuple(cleaned["models"]), found)
                cleaned["models"] = list(dict.fromkeys(model.name for model in chosen.values()))
        except AddressError as error:
            self.add_error("url", str(error))
        except KeyVariableError as error:
            self.add_error("key_variable", str(error))
        except EngineError as error:
            self.add_error("url" if name == "cloud" else "engine", str(error))
        except UnknownModelError as error:
            self.add_error("models", str(error))


def parameters_of(cleaned: dict[str, Any]) -> Parameters:
    """Only what belongs to the chosen kind, prompts and engine: fields that the page hides change nothing."""
    kind, lengths, cloud = cleaned["kind"], cleaned["prompts"] == "lengths", cleaned["engine"] == "cloud"
    rate = cleaned.get("rate_per_s") if kind == "load" else None
    return Parameters(
        engine=cleaned["engine"],
        url=cleaned["url"] if cloud else "",
        key_variable=cleaned["key_variable"] if cloud else "",
        models=tuple(cleaned["models"]),
        kind=kind,
        workload=None if lengths else cleaned["prompts"],
        prompt_tokens=cleaned["prompt_tokens"] if lengths else None,
        output_tokens=cleaned["output_tokens"] if lengths else None,
        n_rounds=cleaned["n_rounds"],
        n_requests=cleaned["n_requests"],
        n_warmup=cleaned["n_warmup"],
        concurrency=1 if kind == "latency" or rate else cleaned["concurrency"],
        rate_per_s=rate,
        think_time_s=(cleaned["think_time_s"] or 0) if kind == "load" and not rate else 0,
        num_predict=None if lengths else cleaned["num_predict"],
        num_ctx=None if cloud else cleaned["num_ctx"],
        temperature=cleaned["temperature"],
        slo={name: cleaned[f"slo_{name}"] for name in ("ttft_ms", "total_ms", "tpot_ms")},
        timeout_s=cleaned["timeout_s"],
        seed=cleaned["seed"] or 0,
    )


def form_values(parameters: Parameters) -> dict[str, Any]:
    """`initial` of a form that runs the same again."""
    values = parameters.model_dump(exclude={"slo", "workload"})
    values["prompts"] = parameters.workload or "lengths"
    values["models"] = list(parameters.models)
    values |= {f"slo_{name}": value for name, value in parameters.slo.model_dump().items()}
    return values
