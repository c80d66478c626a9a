"""The pages and the admin, as a browser without scripts meets them."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from monitoring.collector import LAST_KEY
from tests.inference.gateways import generate
from tests.inference.serving import Server
from tuning import selectors, services
from tuning.models import Activation, Profile

pytestmark = pytest.mark.django_db(transaction=True)
LIST = "/tuning/profiles/"


@pytest.fixture
def client(admin: User, store: Any) -> Client:
    store.delete(LAST_KEY)  # no collector runs: an earlier test may have left a sample
    client = Client()
    client.force_login(admin)
    return client


def text(answer: Any) -> str:
    return " ".join(answer.content.decode().split())


def in_use() -> str:
    current = selectors.activation_in_use()
    return current.label if current else "none"


def test_the_list_shows_all_with_the_recommended_one_and_the_machine(client: Client) -> None:
    assert client.get("/tuning/").headers["Location"] == LIST
    page = text(client.get(LIST))
    for profile in Profile.objects.all():
        assert f'href="{profile.get_absolute_url()}"' in page
    assert "No profile is in use" in page
    assert "GPU unknown" not in page
    assert "unknown: the collector does not run" in page
    assert page.count(">recommended</span>") == 1


def test_pages_ask_the_database_little(client: Client, django_assert_max_num_queries: Any) -> None:
    for _ in range(15):
        services.activate(Profile.objects.get(name="use_case_demo"), by=None)
    with django_assert_max_num_queries(14):
        client.get(LIST)
    with django_assert_max_num_queries(16):
        client.get(LIST + "use_case_demo/")
    with django_assert_max_num_queries(16):
        client.get("/admin/tuning/profile/")


def test_put_to_use_and_undo_by_its_buttons(client: Client, gateway: Server, admin: User) -> None:
    form = {"name": "use_case_demo", "note": "for the fair", "next": LIST}
    page = text(client.post("/tuning/activate/", form, follow=True))
    assert "use_case_demo is in use." in page
    assert "The gateway uses it from the next request on." in page
    assert generate(gateway).headers["x-aicleaner-profile"] == "use_case_demo"
    activation = selectors.activation_in_use()
    assert activation is not None
    assert (activation.by, activation.note) == (admin, "for the fair")
    assert "for the fair" in text(client.get(LIST + "use_case_demo/"))
    assert text(client.get("/tuning/pill/")).endswith("Profile <b>use_case_demo</b></a>")
    undone = text(client.post("/tuning/undo/", {"activation": activation.pk}, follow=True))
    assert "Undone. In use: no profile." in undone
    assert generate(gateway).headers["x-aicleaner-profile"] == "none"
    again = text(client.post("/tuning/undo/", {"activation": activation.pk}, follow=True))
    assert "is not in use any more" in again
    client.post("/tuning/activate/", form)
    assert "No profile is in use any more." in text(
        client.post("/tuning/activate/", {"name": ""}, follow=True)
    )


def test_the_page_says_when_the_gateway_did_not_confirm(client: Client) -> None:
    page = text(client.post("/tuning/activate/", {"name": "use_case_demo"}, follow=True))
    assert "no gateway runs" in page


@pytest.mark.parametrize(
    ("path", "form", "said"),
    [
        ("/tuning/activate/", {"name": "nope"}, "There is no profile called nope"),
        ("/tuning/activate/", {"name": "x" * 65}, "at most 64 characters"),
        ("/tuning/activate/", {"name": "use_case_demo", "note": "x" * 201}, "at most 200 characters"),
        ("/tuning/undo/", {"activation": "7000"}, "There is no such activation"),
        ("/tuning/undo/", {}, "This field is required"),
        (f"{LIST}use_case_demo/restore/", {"version": "0"}, "greater than or equal to 1"),
        (f"{LIST}use_case_demo/restore/", {"version": "x"}, "Enter a whole number"),
        (f"{LIST}use_case_demo/restore/", {"version": "9"}, "has no version 9"),
    ],
)
def test_a_bad_form_is_said_and_changes_nothing(
    client: Client, path: str, form: dict[str, str], said: str
) -> None:
    page = text(client.post(path, form, follow=True))
    assert said in page
    assert 'role="alert"' in page
    assert Activation.objects.count() == 0


def test_the_way_back_stays_on_our_pages(client: Client) -> None:
    answer = client.post("/tuning/activate/", {"name": "", "next": "https://evil.example/"})
    assert answer.headers["Location"] == LIST
    assert client.get(LIST + "nope/").status_code == 404
    assert client.post(LIST + "nope/restore/").status_code == 404
    assert client.get("/tuning/activate/").status_code == 405


def test_who_may_not_change_profiles_may_look(client: Client, guest: User) -> None:
    client.force_login(guest)
    page = text(client.get(LIST + "use_case_demo/"))
    assert ">Activate<" not in page
    assert client.post("/tuning/activate/", {"name": "use_case_demo"}).status_code == 403
    assert client.post(LIST + "use_case_demo/restore/").status_code == 403
    assert in_use() == "none"
    assert Client().get(LIST).status_code == 302  # to the login


def test_a_profile_shows_values_sources_versions_and_what_restoring_changes(client: Client) -> None:
    base = Profile.objects.get(name="performance_balanced")
    heir = Profile(name="heir", parent=base, num_predict=64)
    services.save_profile(heir, by=None)
    heir.num_predict = 96
    services.save_profile(heir, by=None)
    page = text(client.get(LIST + "heir/"))
    assert 'from <a href="/tuning/profiles/performance_balanced/">performance_balanced</a>' in page
    assert "Longest answer: <del>64 tokens</del> <ins>96 tokens</ins>" in page
    assert "Longest answer: <del>96 tokens</del> <ins>64 tokens</ins>" in page
    restored = text(client.post(LIST + "heir/restore/", {"version": "1"}, follow=True))
    assert "Restored, as version 3." in restored
    assert Profile.objects.get(name="heir").num_predict == 64
    shipped = text(client.post(LIST + "heir/restore/", {}, follow=True))
    assert "heir is not one of the shipped profiles" in shipped
    same = text(client.post(LIST + "use_case_demo/restore/", {}, follow=True))
    assert "Nothing to restore" in same


# --- the admin --------------------------------------------------------------------------------------------


NO_ROWS = {"model_options-TOTAL_FORMS": "0", "model_options-INITIAL_FORMS": "0"}  # of the inline


def edit_form(client: Client, profile: Profile, **changes: Any) -> Any:
    url = reverse("admin:tuning_profile_change", args=[profile.pk])
    form = client.get(url).context["adminform"].form
    values = {name: form[name].value() if form[name].value() is not None else "" for name in form.fields}
    values["tags"] = ", ".join(profile.tags)
    return client.post(url, {**values, **NO_ROWS, **changes}, follow=True)


def test_an_edit_in_the_admin_is_used_by_the_next_request(
    client: Client, gateway: Server, admin: User
) -> None:
    profile = Profile.objects.get(name="use_case_demo")
    services.activate(profile, by=None)
    page = text(edit_form(client, profile, context="1536", tags="one, two"))
    assert "The gateway uses it from the next request on." in page
    state = selectors.gateway_state()
    assert state["active"]["options"]["num_ctx"] == 1536
    profile.refresh_from_db()
    assert (profile.tags, profile.version) == (["one", "two"], 2)
    version = profile.versions.first()
    assert version is not None
    assert version.by == admin
    answer = generate(gateway)
    assert answer.headers["x-aicleaner-profile"] == "use_case_demo"


def test_the_admin_shows_what_is_inherited(client: Client) -> None:
    base = Profile.objects.get(name="resource_efficient")
    heir = Profile(name="heir", parent=base)
    services.save_profile(heir, by=None)
    page = text(client.get(reverse("admin:tuning_profile_change", args=[heir.pk])))
    assert 'placeholder="512 tokens (from resource_efficient)"' in page
    assert "INT4 (from resource_efficient)" in page
    assert "on (from default)" in page
    listed = text(client.get("/admin/tuning/profile/"))
    assert "512 tokens (resource_efficient)" in listed


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"context": "5"}, "5 is out of range: give 512 to 131072 tokens"),
        ({"context": "x"}, "Enter a whole number"),
        ({"temperature": "3"}, "3 is out of range: give 0 to 2"),
        ({"parent": "self"}, "is a circle: choose another parent"),
        ({"category": "nope"}, "not one of the available choices"),
        ({"tags": ",".join(f"t{number}" for number in range(21))}, "At most 20 tags"),
    ],
)
def test_a_bad_edit_stands_beside_its_field_and_keeps_what_was_typed(
    client: Client, changes: dict[str, str], said: str
) -> None:
    profile = Profile.objects.get(name="use_case_demo")
    if changes.get("parent") == "self":
        changes = {"parent": str(profile.pk)}
    page = text(edit_form(client, profile, description="kept as typed", **changes))
    assert said in page
    assert "kept as typed" in page
    profile.refresh_from_db()
    assert profile.version == 1


def test_a_new_one_is_made_and_deleted_in_the_admin(client: Client) -> None:
    blank = dict.fromkeys(("context", "engine_batch", "num_predict", "temperature", "top_p", "batch"), "")
    form = {
        **blank,
        **NO_ROWS,
        "name": "mine",
        "category": "custom",
        "target_hardware": "any",
        "target_use": "any",
    }
    answer = client.post("/admin/tuning/profile/add/", {**form, "gpu": "false"}, follow=True)
    assert answer.status_code == 200
    mine = Profile.objects.get(name="mine")
    assert (mine.gpu, mine.cache, mine.version) == (False, None, 1)
    clash = text(client.post("/admin/tuning/profile/add/", form))
    assert "already exists" in clash
    url = reverse("admin:tuning_profile_delete", args=[mine.pk])
    client.post(url, {"post": "yes"})
    assert not Profile.objects.filter(name="mine").exists()
    shipped = Profile.objects.get(name="use_case_demo")
    assert (
        client.post(reverse("admin:tuning_profile_delete", args=[shipped.pk]), {"post": "yes"}).status_code
        == 403
    )
