"""Options of single models: what is taken, which counts, what reaches an engine, what the pages and files show."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from inference.gateway.profile import Profile as GatewayProfile
from inference.gateway.profile import fill
from inference.gateway.pushed import PROFILES
from inference.pushing import push_if_stale
from tests.inference.serving import Server
from tests.inference.test_transcripts import call
from tests.inference.upstream import Upstream, response
from tuning import model_options, selectors, services, yaml_files
from tuning.models import ModelOption, Profile
from tuning.yaml_files import ProfileFileError

RULES: dict[str, dict[str, float]] = {
    "*": {"temperature": 0.9, "seed": 1},
    "llama3*": {"temperature": 0.5, "num_ctx": 1024},
    "llama3:8b": {"temperature": 0.2},
}


# --- which one counts, without a database -----------------------------------------------------------------


def options_for(*names: str, rules: dict[str, dict[str, float]] = RULES) -> dict[str, Any]:
    forms = [(pattern, options) for pattern, options in model_options.gateway_models(rules)]
    return GatewayProfile("p", models=forms).options_of(*names)


def test_the_more_specific_wins_option_by_option() -> None:
    assert options_for("llama3:8b") == {"temperature": 0.2, "seed": 1, "num_ctx": 1024}
    assert options_for("llama3.2:1b") == {"temperature": 0.5, "seed": 1, "num_ctx": 1024}
    assert options_for("phi") == {"temperature": 0.9, "seed": 1}
    assert options_for("phi", "llama3:8b")["temperature"] == 0.2  # asked for one, answered by the other
    assert options_for("", "x", rules={}) == {}


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("llama3:latest", "llama3", True),
        ("*/phi", "me/phi", True),
        ("*/phi", "me/phi:latest", True),
        ("*/phi", "me/phi:2", False),
        ("llama?:*", "llama3:8b", True),
        ("llama", "llama3", False),
        ("Llama3*", "llama3", False),
    ],
)
def test_patterns_fit_names_as_they_are_spelled(pattern: str, name: str, fits: bool) -> None:
    found = options_for(name, rules={model_options.normal(pattern): {"seed": 7}})
    assert bool(found) == fits


def test_a_request_s_own_win_and_limits_hold_all() -> None:
    profile = GatewayProfile(
        "p",
        {"temperature": 0.7, "num_thread": 2},
        max_threads=4,
        gpu=False,
        models=[("m*", {"temperature": 0.1, "num_thread": 16, "num_gpu": 20, "top_k": 5, "seed": 3})],
    )
    asked = {"model": "m", "options": {"top_k": 9}}
    assert fill(profile, "/api/chat", asked, names=("m",))["options"] == {
        "top_k": 9, "temperature": 0.1, "num_thread": 4, "num_gpu": 0, "seed": 3
    }  # fmt: skip
    # A model on one thread keeps to it, unless it is meant itself.
    other = fill(profile, "/api/chat", {"model": "x"}, names=("x",), one_thread=True)
    assert other["options"] == {"temperature": 0.7, "num_gpu": 0}
    assert fill(profile, "/api/chat", asked, names=("m",), one_thread=True)["options"]["num_thread"] == 4
    # OpenAI's API has a name for some.
    fields = fill(profile, "/v1/chat/completions", {"model": "m", "temperature": 1}, names=("m",))
    assert fields == {"seed": 3, "options": {"num_thread": 4, "num_gpu": 0}}
    assert fill(profile, "/api/embed", {}, names=("m",))["options"] == {"num_thread": 4, "num_gpu": 0}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([1], "Give a mapping"),
        ({"": {"seed": 1}}, "is no pattern of model names"),
        ({"[ab]": {"seed": 1}}, "is no pattern of model names"),
        ({"m": {}}, "m: give at least one option"),
        ({"m": {"sed": 1}}, "m: sed: 'sed' is no option; there is num_ctx"),
        ({"m": {"num_ctx": 5}}, "m: num_ctx: 5 is out of range: give 64 to 1048576"),
        ({"m": {"num_ctx": 4096.5}}, "is not a whole number"),
        ({"m": {"seed": True}}, "m: seed: True is not a number"),
        ({"m": {"seed": None}}, "m: seed: Give a value"),
        ({"m": {"seed": 1}, "m:latest": {"seed": 2}}, "Two patterns are the same"),
        ({f"m{number}": {"seed": 1} for number in range(51)}, "At most 50 patterns"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(options: Any, said: str) -> None:
    assert said in " ".join(model_options.problems(options))
    text = f"profiles: [{{name: a, model_options: {json.dumps(options)}}}]"
    with pytest.raises(ProfileFileError, match="model_options: "):
        yaml_files.read(text)


# --- stored, versioned, inherited -------------------------------------------------------------------------

db = pytest.mark.django_db(transaction=True)


def save(name: str, rules: dict[str, dict[str, float]] | None, **values: Any) -> Profile:
    profile = Profile.objects.filter(name=name).first() or Profile(name=name)
    for key, value in values.items():
        setattr(profile, key, value)
    services.save_profile(profile, by=None, model_options=rules)
    return profile


@db
def test_each_change_is_a_version_that_can_be_restored(valkey_url: str) -> None:
    profile = save("mine", {"llama3": {"seed": 1, "num_ctx": 512}})
    assert profile.snapshot()["model_options"] == {"llama3:latest": {"num_ctx": 512, "seed": 1}}
    assert services.save_profile(profile, by=None) is None
    assert services.save_profile(profile, by=None, model_options=RULES) is not None
    assert services.save_profile(profile, by=None, model_options={}) is not None
    assert "model_options" not in profile.snapshot()
    services.restore_version(profile, 2, by=None)
    assert profile.own_model_options() == RULES
    services.restore_version(profile, 1, by=None)
    assert ModelOption.objects.count() == 2
    with pytest.raises(ValidationError) as error:
        services.save_profile(profile, by=None, model_options={"m": {"seed": -1}})
    assert "m: seed: -1 is out of range" in error.value.message_dict["model_options"][0]
    shipped = save("use_case_demo", RULES)
    services.restore_shipped(shipped, by=None)
    assert shipped.own_model_options() == {}


@db
def test_heirs_inherit_each_option_and_the_one_in_use_follows_an_edit(valkey_url: str) -> None:
    parent = save("base", RULES)
    heir = save("heir", {"llama3*": {"num_ctx": 2048}}, parent=parent)
    found = selectors.resolve_all()["heir"].models
    assert list(found) == ["llama3:8b", "llama3*", "*"]
    assert {option: (each.value, each.source) for option, each in found["llama3*"].items()} == {
        "num_ctx": (2048, "heir"), "temperature": (0.5, "base")
    }  # fmt: skip
    first = services.activate(heir, by=None)
    assert first.model_options["llama3*"] == {"num_ctx": 2048, "temperature": 0.5}
    save("base", {"*": {"seed": 5}})
    current = selectors.activation_in_use()
    assert current is not None
    assert current.model_options == {"llama3*": {"num_ctx": 2048}, "*": {"seed": 5}}
    services.undo(current, by=None)
    state = selectors.gateway_state()
    assert ["llama3:8b", {"temperature": 0.2}] in state["active"]["models"]
    push_if_stale(PROFILES, selectors.gateway_state)
    assert not push_if_stale(PROFILES, selectors.gateway_state)


@db
def test_files_carry_them(valkey_url: str, store: Any, tmp_path: Any, capsys: Any) -> None:
    save("mine", RULES)
    file = tmp_path / "mine.yaml"
    call_command("profile", "export", "mine", "--output", str(file))
    assert yaml_files.read(file.read_text())["mine"]["model_options"] == RULES
    file.write_text(file.read_text().replace("name: mine", "name: copy"))
    with pytest.raises(CommandError, match="no gateway runs"):
        call_command("profile", "import", str(file))
    assert Profile.objects.get(name="copy").own_model_options() == RULES
    capsys.readouterr()
    call_command("profile", "show", "copy", "--json")
    shown = json.loads(capsys.readouterr().out)
    assert shown["model_options"]["llama3*"]["num_ctx"] == {"value": 1024, "from": "copy"}
    call_command("profile", "show", "copy")
    assert "llama3*: num_ctx" in capsys.readouterr().out


# --- through the gateway ----------------------------------------------------------------------------------


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    def answer(request: bytes, connection: Any) -> None:
        connection.sendall(response(b'{"response": "ok", "done": true}'))

    with Upstream(answer) as server:
        yield server


@db
def test_they_reach_the_engine_with_the_request_and_go_with_the_profile(
    upstream: Upstream, store: Any, valkey_url: str
) -> None:
    profile = save("mine", RULES, cache=False)
    arguments = ("--valkey", valkey_url, "--engine", f"ollama={upstream.url}")
    with Server("inference.gateway", *arguments) as gateway:

        def options_sent(model: str, **body: Any) -> dict[str, Any]:
            headers = {"x-aicleaner-profile": body.pop("profile", "")}
            call(gateway.url, "POST", "/api/generate", headers, {"model": model, "prompt": "hi", **body})
            sent = json.loads(upstream.requests[-1].partition(b"\r\n\r\n")[2])
            return {name: sent.get("options", {}).get(name) for name in ("temperature", "seed", "num_ctx")}

        services.activate(profile, by=None)
        assert options_sent("llama3:8b") == {"temperature": 0.2, "seed": 1, "num_ctx": 1024}
        assert options_sent("phi") == {"temperature": 0.9, "seed": 1, "num_ctx": None}
        own = options_sent("llama3:8b", options={"temperature": 1.5})
        assert own == {"temperature": 1.5, "seed": 1, "num_ctx": 1024}
        save("mine", {"phi": {"seed": 9}})
        assert options_sent("phi")["seed"] == 9
        assert options_sent("llama3:8b")["temperature"] == 0.1  # the product's default again
        services.activate(None, by=None)
        assert options_sent("phi")["seed"] is None
        assert options_sent("phi", profile="mine")["seed"] == 9


# --- the pages --------------------------------------------------------------------------------------------


@pytest.fixture
def client(admin: User, store: Any) -> Client:
    client = Client()
    client.force_login(admin)
    return client


def page_of(answer: Any) -> str:
    return " ".join(answer.content.decode().split())


def edit(client: Client, profile: Profile, rows: list[tuple[str, str, str]], *, gone: int = -1) -> str:
    """The admin's form with its rows as they are, and `rows` in their place or below; `gone`: the row to delete."""
    url = reverse("admin:tuning_profile_change", args=[profile.pk])
    page = client.get(url)
    form, formset = page.context["adminform"].form, page.context["inline_admin_formsets"][0].formset
    sent = {name: form[name].value() for name in form.fields if form[name].value() is not None}
    n_there = formset.initial_form_count()
    sent |= {"tags": "", "model_options-TOTAL_FORMS": len(rows), "model_options-INITIAL_FORMS": n_there}
    for number, (pattern, option, value) in enumerate(rows):
        row = {"pattern": pattern, "option": option, "value": value, "profile": profile.pk}
        row["id"] = formset.forms[number].instance.pk if number < n_there else ""
        if number == gone:
            row["DELETE"] = "on"
        sent |= {f"model_options-{number}-{name}": each for name, each in row.items()}
    return page_of(client.post(url, sent, follow=True))


@db
def test_rows_are_added_changed_and_deleted_in_the_admin_as_one_version_each(client: Client) -> None:
    profile = save("mine", None)
    edit(client, profile, [("llama3", "num_ctx", "2048"), ("phi*", "temperature", "0.25")])
    rules = {"llama3:latest": {"num_ctx": 2048}, "phi*": {"temperature": 0.25}}
    assert profile.own_model_options() == rules
    page = page_of(client.get(profile.get_absolute_url()))
    assert "llama3:latest</th>" in page
    assert "phi*: temperature: <del>left open</del> <ins>0.25</ins>" in page
    edit(client, profile, [("llama3:latest", "num_ctx", "4096"), ("phi*", "temperature", "0.25")], gone=1)
    assert profile.own_model_options() == {"llama3:latest": {"num_ctx": 4096}}
    profile.refresh_from_db()
    assert profile.version == 3
    page = page_of(client.get(profile.get_absolute_url()))
    assert "llama3:latest: num_ctx: <del>2048</del> <ins>4096</ins>" in page


@db
@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("a b", "num_ctx", "2048"), "is no pattern of model names"),
        (("m", "num_ctx", "5"), "5 is out of range: give 64 to 1048576"),
        (("m", "num_ctx", "99.5"), "99.5 is not a whole number"),
        (("m", "top_p", "x"), "Enter a number"),
        (("m", "nope", "1"), "nope is not one of the available choices"),
        (("m", "num_ctx", ""), "This field is required"),
        (("other", "seed", "2"), "stands twice"),
    ],
)
def test_a_bad_row_is_said_beside_it_and_nothing_is_saved(
    client: Client, row: tuple[str, str, str], said: str
) -> None:
    profile = save("mine", None)
    page = edit(client, profile, [row, ("other", "seed", "1")])
    assert said in page or ("stands twice" in said and "duplicate" in page)
    assert ModelOption.objects.count() == 0
    profile.refresh_from_db()
    assert profile.version == 1
