"""The size of context that a model's requests need, set in the profile in use by a click."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tuning import selectors, services
from tuning.models import Profile

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("store")]
BACK = "/requests/contexts/?range=all"


def post(user: User, **changed: str) -> Any:
    client = Client()
    client.force_login(user)
    asked = {"model": "llama3", "num_ctx": "1536", "next": BACK, **changed}
    return client.post("/tuning/context/", asked, follow=True)


def said(answer: Any) -> str:
    return " ".join(map(str, answer.context["messages"]))


def options() -> dict[str, Any]:
    current = selectors.activation_in_use()
    return dict(current.model_options) if current else {}


def test_it_is_a_version_of_the_profile_in_use_and_put_to_use_at_once(admin: User) -> None:
    profile = Profile.objects.get(name="use_case_demo")
    services.save_profile(profile, by=admin, model_options={"phi": {"num_ctx": 512}, "llama3": {"seed": 3}})
    services.activate(profile, by=admin)
    answer = post(admin)
    assert answer.redirect_chain[0][0] == BACK
    profile.refresh_from_db()
    assert f"llama3: num_ctx 1,536, version {profile.version} of use_case_demo." in said(answer)
    assert options() == {"llama3:latest": {"num_ctx": 1536, "seed": 3}, "phi:latest": {"num_ctx": 512}}
    assert "num_ctx 1536 for llama3" in profile.versions.first().note  # type: ignore[union-attr]
    assert "use_case_demo says so already" in said(post(admin))
    services.undo(selectors.activation_in_use(), by=admin)  # type: ignore[arg-type]
    assert options() == {"llama3:latest": {"seed": 3}, "phi:latest": {"num_ctx": 512}}


def test_without_a_profile_in_use_nothing_is_set(admin: User) -> None:
    assert "No profile is in use that could hold it: put one to use first." in said(post(admin))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"num_ctx": "12"}, "llama3: llama3:latest: num_ctx"),
        ({"num_ctx": "many"}, "num_ctx: Enter a whole number."),
        ({"model": "a b"}, "is no pattern of model names"),
        ({"model": ""}, "model: This field is required."),
    ],
)
def test_bad_input_is_said_with_its_field(admin: User, changed: dict[str, str], words: str) -> None:
    services.activate(Profile.objects.get(name="use_case_demo"), by=admin)
    assert words in said(post(admin, **changed))
    assert options() == {}


def test_who_may_not_change_profiles_may_not_change_this(guest: User) -> None:
    services.activate(Profile.objects.get(name="use_case_demo"), by=None)
    assert post(guest).status_code == 403
    assert options() == {}
