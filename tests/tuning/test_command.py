"""`manage.py profile` as a script sees it."""

import json
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import call_command
from django.core.management.base import CommandError

from tests.inference.gateways import generate
from tests.inference.serving import Server
from tests.product import BASE_DIR
from tuning import selectors
from tuning.models import Profile

pytestmark = pytest.mark.django_db(transaction=True)


def profile(*arguments: str) -> str:
    out = StringIO()
    call_command("profile", *arguments, stdout=out)
    return out.getvalue()


def facts(*arguments: str) -> Any:
    return json.loads(profile(*arguments, "--json"))


def test_list_and_show_name_what_is_in_use_and_where_values_come_from(gateway: Server) -> None:
    assert facts("list")["active"] is None
    assert "in use: use_case_demo" not in profile("list")
    profile("activate", "use_case_demo")
    found = facts("list")
    assert (found["active"], len(found["profiles"])) == ("use_case_demo", 12)
    assert found["recommended"].startswith("hardware_")
    assert "* in use: use_case_demo" in profile("list")
    shown = facts("show", "use_case_demo")
    assert shown["effective"]["context"] == {"value": 2048, "from": "use_case_demo"}
    assert shown["effective"]["temperature"] == {"value": 0.1, "from": "default"}
    assert "2048 tokens" in profile("show", "use_case_demo")


def test_activate_and_undo_reach_the_gateway(gateway: Server) -> None:
    found = facts("activate", "use_case_demo", "--note", "why not")
    assert (found["name"], found["note"], found["gateway"]["ok"]) == ("use_case_demo", "why not", True)
    assert generate(gateway).headers["x-aicleaner-profile"] == "use_case_demo"
    assert "No" not in profile("activate", "none")
    assert generate(gateway).headers["x-aicleaner-profile"] == "none"
    assert facts("undo")["active"] == "use_case_demo"
    assert "in use: none" in profile("undo")
    with pytest.raises(CommandError, match="nothing to undo"):
        profile("undo")


def test_without_a_gateway_it_is_saved_and_the_exit_code_says_so(store: Any) -> None:
    with pytest.raises(CommandError, match="no gateway runs") as error:
        profile("activate", "use_case_demo")
    assert error.value.returncode == 3
    current = selectors.activation_in_use()
    assert current is not None
    assert current.label == "use_case_demo"


def test_what_is_exported_can_be_imported(gateway: Server, tmp_path: Path) -> None:
    file = tmp_path / "profiles.yaml"
    assert "12 profiles" in profile("export", "--output", str(file))
    with pytest.raises(CommandError, match=r"exist already.*--replace"):
        profile("import", str(file))
    assert facts("import", str(file), "--replace")["unchanged"] == [
        each.name for each in Profile.objects.all()
    ]
    rows = yaml.safe_load(profile("export", "use_case_demo"))["profiles"]
    (row,) = rows
    heir = {"name": "heir", "parent": "copy"}  # before its parent: the order of the file doesn't matter
    file.write_text(yaml.safe_dump({"profiles": [heir, {**row, "name": "copy", "context": 1024}]}))
    assert facts("import", str(file))["created"] == ["copy", "heir"]
    assert selectors.resolve_all()["heir"].values["context"] == 1024
    file.write_text(yaml.safe_dump({"profiles": [{**row, "name": "copy", "context": 2048}]}))
    assert facts("import", str(file), "--replace")["changed"] == ["copy"]
    assert generate(gateway, {"x-aicleaner-profile": "heir"}).headers["x-aicleaner-profile"] == "heir"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("profiles: [{name: a, contxt: 1}]", "contxt: is not a known key"),
        ("profiles: [{name: a}, {name: b, context: 1}]", "context: 1 is out of range"),
        ("profiles: [{name: a}, {name: b, parent: c}]", "b: parent: there is no profile called c"),
        ("profiles: [{name: a, parent: b}, {name: b, parent: a}]", "circle"),
        ("profiles: [{name: a}, {name: B}]", "B: name: Use small letters"),
        ("profiles: [{name: a, tags: [1]}]", "a: tags: Tags are a list of words"),
    ],
)
def test_a_bad_file_changes_nothing(store: Any, tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(CommandError) as error:
        profile("import", str(file))
    assert named in str(error.value)
    assert Profile.objects.count() == 12


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["show", "nope"], "no profile called nope; there are hardware_low_end"),
        (["activate", "nope"], "no profile called nope"),
        (["activate", "use_case_demo", "--note", "x" * 201], "--note: at most 200"),
        (["export", "nope"], "no profile called nope"),
        (["export", "--output", "/nowhere/x.yaml"], "can't be written"),
        (["import", "/nowhere/x.yaml"], "can't be read"),
        (["fly"], "invalid choice"),
        ([], "required"),
    ],
)
def test_bad_arguments_are_said(store: Any, arguments: list[str], named: str) -> None:
    with pytest.raises(CommandError) as error:
        profile(*arguments)
    assert named in str(error.value)


def test_exit_codes_of_the_process(store: Any) -> None:
    """The database of this run is another one: only what needs none of it."""
    command = [sys.executable, "manage.py", "profile"]
    assert subprocess.run([*command, "fly"], cwd=BASE_DIR, capture_output=True).returncode == 2
    bad = subprocess.run([*command, "import", "/nowhere"], cwd=BASE_DIR, capture_output=True, text=True)
    assert bad.returncode == 1
    assert bad.stderr.strip().startswith("CommandError: /nowhere can't be read")
