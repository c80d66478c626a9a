"""Pages of channels: who may, what they show and never show, what bad input gets."""

from dataclasses import fields
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from monitoring import tasks
from monitoring.alerts.channel_forms import FORMS
from monitoring.channels import KINDS, class_of
from monitoring.models import ChannelConfig, Delivery
from safeguards.sealing import channel_secrets
from tests.monitoring.alerting import Bench, at, make_rule
from tests.monitoring.receivers import configure, http_receiver
from tests.monitoring.test_channels import SECRET

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("valkey_url")]
COMMON = {"name": "Ops", "least_severity": "1", "zone": "Europe/Berlin", "enabled": "on"}
GOOD: dict[str, dict[str, str]] = {
    "webhook": {"url": "http://127.0.0.1:9/T0KEN-in-path", "signing_secret": SECRET},
    "home_assistant": {"url": "http://127.0.0.1:8123/", "token": "T0KEN-long", "service": "notify.notify"},
    "mail": {
        "host": "127.0.0.1",
        "port": "587",
        "security": "starttls",
        "user": "ai",
        "password": "T0KEN-pw",
        "sender": "ai@example.com",
        "recipients": "anna@example.com, ben@example.com",
    },
    "mqtt": {
        "host": "127.0.0.1",
        "port": "1883",
        "user": "ai",
        "password": "T0KEN-pw",
        "version": "5",
        "topic": "ai/alerts",
        "discovery_prefix": "homeassistant",
    },
    "apprise": {"url": "json://127.0.0.1:9/T0KEN-in-path"},
}


def add(client: Client, kind: str, **values: str) -> Any:
    return client.post(f"/alerts/channels/new/{kind}/", {**COMMON, **GOOD[kind], **values})


@pytest.fixture
def dead() -> Delivery:
    make_rule()
    config = configure("webhook", {}, {"url": "http://127.0.0.1:9/", "signing_secret": SECRET}, name="Ops")
    Bench().heat(95)
    Delivery.objects.filter(config=config).update(
        status="dead", last_error="<404>", failed_at=at(1), attempts=1
    )
    return Delivery.objects.get(config=config)


def test_only_staff_see_and_change_channels(client: Client, dead: Delivery) -> None:
    assert dead.config is not None
    paths = [
        *("/alerts/channels/", "/alerts/channels/new/webhook/", f"/alerts/channels/{dead.config.pk}/"),
        *(f"/alerts/channels/{dead.config.pk}/delete/", f"/alerts/channels/{dead.config.pk}/test/"),
        *(f"/alerts/deliveries/{dead.pk}/retry/", "/alerts/deliveries/retry/"),
        *(f"/alerts/deliveries/{dead.pk}/dismiss/", "/alerts/deliveries/dismiss/"),
    ]
    for path in paths:
        assert client.post(path)["Location"].startswith("/login/"), path
    client.force_login(User.objects.create_user("anna"))
    for path in paths:
        assert client.post(path, {**COMMON, **GOOD["webhook"]}).status_code in (403, 405), path
        assert client.get(path).status_code in (403, 405), path
    assert "/alerts/channels/" not in client.get("/alerts/").content.decode()
    dead.refresh_from_db()
    assert (dead.status, ChannelConfig.objects.count()) == ("dead", 1)


def test_what_changes_something_is_posted_with_a_token(admin_user: User, dead: Delivery) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    assert dead.config is not None
    for path in (
        *("/alerts/channels/new/webhook/", f"/alerts/channels/{dead.config.pk}/delete/"),
        *(f"/alerts/channels/{dead.config.pk}/test/", "/alerts/deliveries/retry/"),
        *("/alerts/deliveries/dismiss/", f"/alerts/deliveries/{dead.pk}/dismiss/"),
    ):
        assert client.post(path, {}).status_code == 403, path
    for path in (
        *(f"/alerts/channels/{dead.config.pk}/test/", f"/alerts/deliveries/{dead.pk}/retry/"),
        *(f"/alerts/deliveries/{dead.pk}/dismiss/", "/alerts/deliveries/dismiss/"),
    ):
        assert client.get(path).status_code == 405, path


@pytest.mark.parametrize("kind", list(KINDS))
def test_each_kind_is_added_and_its_secrets_are_never_shown_again(admin_client: Client, kind: str) -> None:
    assert admin_client.get(f"/alerts/channels/new/{kind}/").status_code == 200
    assert add(admin_client, kind)["Location"] == "/alerts/channels/"
    config = ChannelConfig.objects.get()
    secrets = channel_secrets.unseal(config.sealed)
    assert secrets
    pages = admin_client.get("/alerts/channels/").content.decode()
    pages += admin_client.get(f"/alerts/channels/{config.pk}/").content.decode()
    pages += admin_client.get(f"/alerts/channels/{config.pk}/delete/").content.decode()
    pages += add(admin_client, kind, name="").content.decode() if kind != "webhook" else ""
    assert "Ops" in pages
    for text in ("T0KEN", *secrets.values()):
        assert text not in pages
    # saved anew with nothing entered in their place, they stay
    kept = {name: value for name, value in GOOD[kind].items() if name not in secrets}
    answer = admin_client.post(f"/alerts/channels/{config.pk}/", {**COMMON, **kept, "name": "Ops 2"})
    assert answer.status_code == 302
    config.refresh_from_db()
    assert (config.name, channel_secrets.unseal(config.sealed)) == ("Ops 2", secrets)


def test_a_form_has_the_fields_of_its_kind() -> None:
    assert set(FORMS) == set(KINDS)
    for kind, form in FORMS.items():
        assert set(form.own_names()) == {each.name for each in fields(class_of(kind))}


@pytest.mark.parametrize(
    ("kind", "values", "said"),
    [
        ("webhook", {"name": ""}, "This field is required"),
        ("webhook", {"name": "LOG"}, "always there"),
        ("webhook", {"url": ""}, "This field is required"),
        ("webhook", {"url": "ftp://127.0.0.1"}, "starts with http"),
        ("webhook", {"url": "http://me:pw@127.0.0.1/"}, "Leave user name and password out"),
        ("webhook", {"url": "http://169.254.169.254/"}, "link-local"),
        ("webhook", {"url": "http://127.0.0.1:99999/"}, "That is no address"),
        ("webhook", {"url": "http://no-such-host.invalid/"}, "be found"),
        ("webhook", {"signing_secret": "short"}, "at least 16 bytes"),
        ("webhook", {"authorization": "a\r\nX-Evil: 1"}, "without special characters"),
        ("webhook", {"ca": "nonsense"}, "PEM form"),
        ("webhook", {"quiet_from": "22:00"}, "Give both ends"),
        ("webhook", {"quiet_from": "22:00", "quiet_to": "22:00"}, "quiet all day"),
        ("webhook", {"quiet_from": "late", "quiet_to": "07:00"}, "Enter a valid time"),
        ("webhook", {"zone": "Mars/Olympus"}, "not one of the available choices"),
        ("webhook", {"least_severity": "9"}, "not one of the available choices"),
        ("home_assistant", {"token": ""}, "This field is required"),
        ("home_assistant", {"service": "light.turn_on"}, "such as notify.mobile_app_phone"),
        ("home_assistant", {"service": "notify.send_message"}, "needs an entity"),
        ("home_assistant", {"entity": "notify.kitchen"}, "Only notify.send_message"),
        ("home_assistant", {"url": "http://100.100.100.200"}, "metadata"),
        ("mail", {"recipients": "anna@example.com, ben"}, "ben is no e-mail address"),
        ("mail", {"recipients": ""}, "This field is required"),
        ("mail", {"sender": "x"}, "valid email"),
        ("mail", {"security": "none"}, "is not sent unencrypted"),
        ("mail", {"password": ""}, "Give the user&#x27;s password"),
        ("mail", {"port": "0"}, "greater than or equal to 1"),
        ("mail", {"host": "169.254.169.254"}, "link-local"),
        ("mail", {"host": "http://mail"}, "Give the name"),
        ("mqtt", {"topic": "ai/#"}, "without + and #"),
        ("mqtt", {"host": "fe80::1"}, "link-local"),
        ("mqtt", {"discovery_prefix": "home#"}, "such as homeassistant"),
        ("apprise", {"url": "pigeon://x"}, "does not know"),
        ("apprise", {"url": "json://169.254.169.254/"}, "link-local"),
    ],
)
def test_wrong_input_is_said_beside_its_field_and_the_rest_is_kept(
    admin_client: Client, kind: str, values: dict[str, str], said: str
) -> None:
    answer = add(admin_client, kind, **{"name": "kept name", **values})
    page = answer.content.decode()
    assert answer.status_code == 200
    assert said in page
    assert values.get("name", "kept name") in page
    assert not ChannelConfig.objects.exists()


def test_a_name_is_given_once(admin_client: Client) -> None:
    add(admin_client, "webhook")
    assert "Channel with this Name already exists." in add(admin_client, "mqtt").content.decode()


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("home_assistant", {"url": "http://127.0.0.1:8124"}),
        ("mail", {"host": "127.0.0.2"}),
        ("mail", {"port": "588"}),
        ("mqtt", {"host": "127.0.0.2"}),
    ],
)
def test_a_stored_secret_does_not_follow_a_changed_address(
    admin_client: Client, kind: str, values: dict[str, str]
) -> None:
    add(admin_client, kind)
    config = ChannelConfig.objects.get()
    (name,) = channel_secrets.unseal(config.sealed)
    path, form = f"/alerts/channels/{config.pk}/", {**COMMON, **GOOD[kind], **values, name: ""}
    assert "It was stored for another place" in admin_client.post(path, form).content.decode()
    assert admin_client.post(path, {**form, name: "entered-again"}).status_code == 302
    config.refresh_from_db()
    assert channel_secrets.unseal(config.sealed) == {name: "entered-again"}


def test_an_optional_secret_can_be_forgotten(admin_client: Client) -> None:
    add(admin_client, "webhook", authorization="Bearer abc")
    config = ChannelConfig.objects.get()
    form = {**COMMON, "url": "", "signing_secret": "", "forget_authorization": "on"}
    assert admin_client.post(f"/alerts/channels/{config.pk}/", form).status_code == 302
    config.refresh_from_db()
    assert set(channel_secrets.unseal(config.sealed)) == {"url", "signing_secret"}


def test_a_channel_under_another_secret_key_says_so_and_is_set_up_anew(
    admin_client: Client, settings: Any
) -> None:
    settings.SECRET_KEY = "before"
    config = configure("webhook", {}, {"url": "http://127.0.0.1:9/", "signing_secret": SECRET}, name="Ops")
    settings.SECRET_KEY = "after"
    admin_client.force_login(User.objects.get(username="admin"))  # sessions went with the key as well
    page = admin_client.get("/alerts/channels/").content.decode()
    assert "broken" in page
    assert "another secret key" in page
    path = f"/alerts/channels/{config.pk}/"
    assert "another secret key" in admin_client.get(path).content.decode()
    assert admin_client.post(path, {**COMMON, "url": "", "signing_secret": ""}).status_code == 200
    assert admin_client.post(path, {**COMMON, **GOOD["webhook"]}).status_code == 302
    assert "another secret key" not in admin_client.get("/alerts/channels/").content.decode()


def test_a_test_is_asked_for_and_its_result_shown(admin_client: Client) -> None:
    with http_receiver() as receiver:
        add(admin_client, "webhook", url=f"{receiver.url}/hook")
        config = ChannelConfig.objects.get()
        admin_client.post(f"/alerts/channels/{config.pk}/test/")
        assert "test is on its way" in admin_client.get("/alerts/channels/").content.decode()
        tasks.deliver_test(config.pk)  # as the worker does
        assert "test delivered" in admin_client.get("/alerts/channels/").content.decode()
        receiver.status = 403
        admin_client.post(f"/alerts/channels/{config.pk}/test/")
        tasks.deliver_test(config.pk)
        page = admin_client.get("/alerts/channels/").content.decode()
        assert "test failed" in page
        assert "403 Forbidden" in page
        ChannelConfig.objects.update(tested_at=None, test_asked_at=timezone.now() - timedelta(minutes=5))
        assert "test got no answer" in admin_client.get("/alerts/channels/").content.decode()
    tasks.deliver_test(999999)  # deleted meanwhile


def test_health_log_and_filters(
    admin_client: Client, dead: Delivery, django_assert_max_num_queries: Any
) -> None:
    with django_assert_max_num_queries(10):
        page = admin_client.get("/alerts/channels/").content.decode()
    assert "failing" in page
    assert "&lt;404&gt;" in page
    assert "Heat on box" in page
    assert "Retry all 1 given up" in page

    def n(query: str) -> int:
        return admin_client.get(f"/alerts/channels/?{query}").content.decode().count("<tr>") - 1

    assert [
        n(q) for q in ("", "channel=log", f"channel={dead.channel}", "status=dead", "status=waiting")
    ] == [*(2, 1, 1, 1, 1)]
    assert "No such deliveries" in admin_client.get("/alerts/channels/?status=folded").content.decode()
    assert (
        "not one of the available choices" in admin_client.get("/alerts/channels/?channel=x").content.decode()
    )
    assert "Ops" in admin_client.get(f"/alerts/{dead.alert_id}/").content.decode()


def test_with_nothing_set_up_the_page_says_so(admin_client: Client) -> None:
    page = admin_client.get("/alerts/channels/").content.decode()
    assert "always there" in page
    assert "Nothing was told yet" in page
    assert "Set up a channel that reaches you" in page


def test_what_was_given_up_is_retried_one_and_all(admin_client: Client, dead: Delivery) -> None:
    page = admin_client.post(f"/alerts/deliveries/{dead.pk}/retry/", follow=True).content.decode()
    assert "It is tried again." in page
    dead.refresh_from_db()
    assert dead.status == "waiting"
    page = admin_client.post(f"/alerts/deliveries/{dead.pk}/retry/", follow=True).content.decode()
    assert "It was not tried again" in page
    Delivery.objects.filter(pk=dead.pk).update(status="dead")
    page = admin_client.post("/alerts/deliveries/retry/", follow=True).content.decode()
    assert "1 notice is tried again" in page
    Delivery.objects.filter(pk=dead.pk).update(status="dead")
    ChannelConfig.objects.update(enabled=False)
    page = admin_client.post("/alerts/deliveries/retry/", follow=True).content.decode()
    assert "0 notices are tried again" in page
    assert admin_client.post("/alerts/deliveries/999999/retry/").status_code == 404


def test_what_was_given_up_is_dismissed_one_and_all_of_a_filter(admin_client: Client, dead: Delivery) -> None:
    page = admin_client.post(f"/alerts/deliveries/{dead.pk}/dismiss/", follow=True).content.decode()
    assert "It is dismissed" in page
    assert "given up</button>" not in page
    assert "&lt;404&gt;" not in page.partition("<h2>Deliveries")[2]
    dead.refresh_from_db()
    assert (dead.status, dead.dismissed_by, dead.dismissed_at is not None) == ("dismissed", "admin", True)
    shown = admin_client.get("/alerts/channels/?status=dismissed").content.decode()
    assert "&lt;404&gt;" in shown
    assert "by admin <time" in shown
    assert "by admin <time" in admin_client.get(f"/alerts/{dead.alert_id}/").content.decode()
    page = admin_client.post(f"/alerts/deliveries/{dead.pk}/dismiss/", follow=True).content.decode()
    assert "It was not dismissed" in page
    # It can still be tried again, and is then like any other.
    admin_client.post(f"/alerts/deliveries/{dead.pk}/retry/")
    dead.refresh_from_db()
    assert (dead.status, dead.dismissed_by, dead.dismissed_at) == ("waiting", "", None)

    other = configure("webhook", {}, {"url": "http://127.0.0.1:9/", "signing_secret": SECRET}, name="Other")
    dead.status = "dead"
    dead.save()
    values = {each.name: getattr(dead, each.name) for each in Delivery._meta.concrete_fields}
    Delivery.objects.create(
        **{**values, "id": None, "key": "another", "channel": other.key, "config": other, "status": "dead"}
    )
    assert "Retry all 2 given up<" in admin_client.get("/alerts/channels/").content.decode()
    page = admin_client.get(f"/alerts/channels/?channel={other.key}").content.decode()
    assert "Retry all 1 given up of Other<" in page
    answer = admin_client.post("/alerts/deliveries/dismiss/", {"channel": other.key}, follow=True)
    assert "1 notice is dismissed" in answer.content.decode()
    assert [*Delivery.objects.exclude(config=None).values_list("config__name", "status")] == [
        ("Ops", "dead"),
        ("Other", "dismissed"),
    ]
    assert (
        "1 notice is tried again"
        in admin_client.post("/alerts/deliveries/retry/", {"channel": ""}, follow=True).content.decode()
    )  # what was dismissed is not tried again with the others
    other.refresh_from_db()
    assert other.deliveries.get().status == "dismissed"


def test_a_deleted_channel_leaves_its_deliveries(admin_client: Client, dead: Delivery) -> None:
    assert dead.config is not None
    path = f"/alerts/channels/{dead.config.pk}/delete/"
    assert "Delete Ops?" in admin_client.get(path).content.decode()
    assert admin_client.post(path).status_code == 302
    dead.refresh_from_db()
    assert dead.channel in admin_client.get("/alerts/channels/").content.decode()
    assert admin_client.get(path).status_code == 404
    assert admin_client.get("/alerts/channels/new/pigeon/").status_code == 404
