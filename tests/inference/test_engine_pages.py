"""Engines on their page: added, changed, tested and removed; their keys stay sealed."""

import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from django.core.management import call_command
from django.test import Client
from django.utils import timezone
from genai_prices.data_snapshot import get_snapshot

from inference.aliases import selectors as aliases
from inference.aliases import services as alias_services
from inference.engines import selectors, services
from inference.engines.costs import PROVIDERS
from inference.gateway.added import SealedError, open_sealed
from inference.gateway.pushed import ENGINES
from inference.gateway.records import STATS_KEY
from inference.models import AliasChange, Engine
from safeguards.sealing import channel_secrets, engine_secrets
from tests.inference.cloud_server import KEY, CloudServer, cloud_server
from tests.inference.mortal import serving
from tests.inference.old_ollama import OldOllama, old_ollama
from tests.monitoring.receivers import make_certificate

pytestmark = pytest.mark.django_db(transaction=True)
SKY: dict[str, Any] = {
    "name": "sky", "kind": "openai", "priority": "50", "key": KEY, "enabled": "on", "budget_usd": "", "prices": "",
}  # fmt: skip


@pytest.fixture
def cloud() -> Iterator[CloudServer]:
    with cloud_server() as server:
        yield server


@pytest.fixture
def shed() -> Iterator[OldOllama]:
    with old_ollama("broom") as server:
        yield server


@pytest.fixture(autouse=True)
def _valkey(valkey_url: str) -> Iterator[None]:
    with redis.from_url(valkey_url) as store:
        store.delete(ENGINES.key, STATS_KEY)
        yield
        store.delete(ENGINES.key)


def add(staff: Client, **fields: Any) -> str:
    return staff.post("/engines/new/", {**SKY, **fields}, follow=True).content.decode()


def test_a_cloud_is_added_tested_and_pushed_with_its_key_sealed(
    staff: Client, cloud: CloudServer, valkey_url: str
) -> None:
    page = add(staff, url=f"{cloud.url}/")
    assert "sky answers: 2 models (gpt-4o-mini, text-embedding-3-small)" in page
    assert "API key stored" in page
    engine = Engine.objects.get()
    assert (engine.url, selectors.key_of(engine)) == (cloud.url, KEY)
    with redis.from_url(valkey_url) as store:
        raw: Any = store.get(ENGINES.key)
    state = json.loads(raw)["engines"]
    assert [each["name"] for each in state] == ["sky"]
    assert open_sealed(state[0]["sealed"], " ".join(engine_secrets.keys())) == KEY
    with pytest.raises(SealedError):
        open_sealed(state[0]["sealed"], " ".join(channel_secrets.keys()))  # each purpose has its own
    everything = [
        page, raw.decode(), engine.sealed, str(list(Engine.objects.values())), repr(engine),
        staff.get(f"/engines/{engine.pk}/").content.decode(), staff.get("/engines/").content.decode(),
    ]  # fmt: skip
    assert not [each for each in everything if KEY in each]


def test_a_key_is_kept_replaced_and_removed(staff: Client, cloud: CloudServer) -> None:
    add(staff, url=cloud.url)
    engine = Engine.objects.get()
    page = f"/engines/{engine.pk}/"
    kept = {**SKY, "url": cloud.url, "key": ""}
    assert "One is stored and never shown" in staff.get(page).content.decode()
    staff.post(page, {**kept, "priority": "7"})
    engine.refresh_from_db()
    assert (engine.priority, selectors.key_of(engine)) == (7, KEY)
    said = staff.post(page, {**kept, "key": "sk-other-key"}, follow=True).content.decode()
    assert "The API key is refused" in said
    assert "sk-other-key" not in said
    engine.refresh_from_db()
    assert selectors.key_of(engine) == "sk-other-key"
    said = staff.post(page, {**kept, "forget_key": "on"}, follow=True).content.decode()
    assert "An API key is wanted" in said
    engine.refresh_from_db()
    assert engine.sealed == ""


def test_a_stored_key_does_not_follow_a_changed_address(staff: Client, cloud: CloudServer) -> None:
    add(staff, url=cloud.url)
    engine = Engine.objects.get()
    moved = {**SKY, "url": "http://127.0.0.1:9/v1", "key": ""}
    answer = staff.post(f"/engines/{engine.pk}/", moved)
    assert answer.status_code == 400
    assert "belongs to the old address" in answer.content.decode()
    engine.refresh_from_db()
    assert engine.url == cloud.url
    staff.post(f"/engines/{engine.pk}/", {**moved, "forget_key": "on"})
    engine.refresh_from_db()
    assert (engine.url, engine.sealed) == ("http://127.0.0.1:9/v1", "")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "Sky!"}, "Small letters, digits"),
        ({"name": "jobs"}, "stands for something else"),
        ({"name": "ollama"}, "stands for something else"),
        ({"url": "ftp://x"}, "starts with http:// or https://"),
        ({"url": "http://me:pw@127.0.0.1/v1"}, "Leave user name and password out"),
        ({"url": "http://127.0.0.1/v1?a=b"}, "without"),
        ({"url": "http://169.254.169.254/v1"}, "Nothing is sent to 169.254.169.254"),
        ({"url": "http://nowhere.invalid/v1"}, "can&#x27;t be found"),
        ({"url": "http://127.0.0.1:99999/v1"}, "This is no address"),
        ({"url": "http://127.0.0.1:11435"}, "the product itself"),
        ({"url": "http://127.0.0.1/v1/chat/completions"}, "without /chat/completions"),
        ({"key": "sk two words"}, "one word"),
        ({"budget_usd": "-1"}, "greater than or equal to 0"),
        ({"kind": "ollama"}, "Only clouds have an API key"),
        (
            {"kind": "ollama", "key": "", "url": "http://127.0.0.1:1"},
            "There is an engine with this address already",
        ),
        ({"kind": "smoke"}, "Select a valid choice"),
    ],
)
def test_bad_input_is_said_at_its_field(
    staff: Client, settings: Any, fields: dict[str, Any], said: str
) -> None:
    settings.GATEWAY_PORT = 11435
    settings.ENGINES = [{"kind": "ollama", "url": "http://127.0.0.1:1"}]
    answer = staff.post("/engines/new/", {**SKY, "url": "http://127.0.0.1:9/v1", **fields})
    page = answer.content.decode()
    assert answer.status_code == 400
    assert said in page
    assert KEY not in page
    assert not Engine.objects.exists()


def test_engines_of_the_settings_are_shown_and_can_be_tested_only(
    staff: Client, settings: Any, shed: OldOllama
) -> None:
    settings.ENGINES = [
        {"kind": "ollama", "url": shed.url},
        {"kind": "embedded", "url": "http://127.0.0.1:1"},
    ]
    page = staff.get("/engines/").content.decode()
    assert page.count("from the settings") == 2
    assert "The gateway does not run: nobody knows how the engines are." in page
    assert "/engines/1/" not in page
    tested = staff.post("/engines/test/", {"engine": "ollama"}, follow=True).content.decode()
    assert "Ollama answers: version 0.1.32, 1 model (broom)" in tested
    tested = staff.post("/engines/test/", {"engine": "embedded"}, follow=True).content.decode()
    assert "Connection refused: nobody listens at 127.0.0.1:1." in tested
    assert (
        "there is none of this name"
        in staff.post("/engines/test/", {"engine": "x"}, follow=True).content.decode()
    )


def test_an_added_ollama_is_seen_by_everything_that_asks_for_engines(
    staff: Client, shed: OldOllama, settings: Any
) -> None:
    settings.ENGINES = [
        {"kind": "ollama", "url": "http://127.0.0.1:1"},
        {"kind": "embedded", "url": "http://127.0.0.1:2"},
    ]
    page = add(staff, name="shed", kind="ollama", url=shed.url, key="")
    assert "shed answers: version 0.1.32, 1 model (broom)" in page
    assert [each.name for each in selectors.addresses()] == ["ollama", "shed", "embedded"]
    assert "broom:latest" in staff.get("/models/?engine=shed").content.decode()
    assert staff.get("/models/shed/broom:latest/").status_code == 200
    job = staff.get("/models/jobs/new/?kind=quantize").content.decode()
    assert "shed|broom" in job
    models = staff.get("/benchmarks/new/models/?engine=shed").content.decode()
    assert "broom" in models
    engine = Engine.objects.get()
    staff.post(
        f"/engines/{engine.pk}/",
        {**SKY, "name": "shed", "kind": "ollama", "url": shed.url, "key": "", "enabled": ""},
    )
    assert [each.name for each in selectors.addresses()] == ["ollama", "embedded"]
    assert "off" in staff.get("/engines/").content.decode()
    gone = staff.post(f"/engines/{engine.pk}/delete/", follow=True).content.decode()
    assert "shed is removed" in gone
    assert staff.get("/models/shed/broom:latest/").status_code == 404


def test_a_test_says_what_is_wrong(cloud: CloudServer, shed: OldOllama, tmp_path: Path) -> None:
    def problem(kind: str, url: str, key: str = "") -> str:
        return services.ask_engine(kind, url, key).problem

    assert "What answers there is no Ollama: /api/version gave HTTP" in problem("ollama", cloud.url, KEY)
    assert "is no OpenAI-compatible server" in problem("openai", shed.url)
    assert "can't be resolved" in problem("openai", "http://nowhere.invalid/v1")
    assert "Nothing is sent to 169.254.169.254" in problem("openai", "http://169.254.169.254/v1")
    assert "The API key is refused" in problem("openai", cloud.url, "sk-wrong-key")
    assert "TLS: no encrypted connection" in problem("openai", cloud.url.replace("http://", "https://"), KEY)
    with serving(server := OldOllama("broom")):
        server.socket = certified(server.socket, tmp_path)
        url = server.url.replace("http://", "https://")
        assert "TLS: the certificate is not accepted" in problem("ollama", url)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert services.ask_engine("ollama", url, within_s=0.2).problem == "No answer within 0.2 s."


def certified(plain: socket.socket, folder: Path) -> ssl.SSLSocket:
    """By an authority that nobody knows."""
    return make_certificate(folder).server_context().wrap_socket(plain, server_side=True)


def test_only_staff_changes_engines_and_everyone_sees_them(
    person: Client, staff: Client, cloud: CloudServer
) -> None:
    add(staff, url=cloud.url)
    engine = Engine.objects.get()
    assert "sky" in person.get("/engines/").content.decode()
    assert 'action="/engines/test/"' not in person.get("/engines/").content.decode()
    for path in ("new/", f"{engine.pk}/", f"{engine.pk}/delete/", "fallbacks/new/"):
        assert person.get(f"/engines/{path}").status_code == 403
    assert person.post("/engines/test/", {"engine": "sky"}).status_code == 403
    assert Client().get("/engines/").status_code == 302
    assert Client(enforce_csrf_checks=True, headers={}).post("/engines/test/").status_code in {302, 403}


def test_a_fallback_is_set_changed_undone_and_removed(staff: Client, cloud: CloudServer) -> None:
    add(staff, url=cloud.url)
    given = {
        "name": "llava", "target": "", "cloud": "sky", "cloud_model": "gpt-4o-mini", "first_byte_s": "30", "on_queue": "",
        "on_pressure": "high",
    }  # fmt: skip
    page = staff.post("/engines/fallbacks/new/", given, follow=True).content.decode()
    assert "llava:latest here, else <b>gpt-4o-mini</b> of sky" in page
    assert "no answer has begun within 30 s" in page
    when = {"on_queue": None, "on_pressure": "high", "first_byte_s": 30.0}
    wanted = {"cloud": "sky", "model": "gpt-4o-mini", **when}
    assert aliases.gateway_state() == {"aliases": {}, "fallbacks": {"llava:latest": wanted}}
    change = AliasChange.objects.get()
    same = staff.post(f"/engines/fallbacks/{change.pk}/", given)
    assert "answers for llava:latest already" in same.content.decode()
    staff.post(f"/engines/fallbacks/{change.pk}/", {**given, "target": "llava:q4"})
    assert aliases.gateway_state()["aliases"] == {"llava:latest": "llava:q4"}
    # A variant put to use, or taken back, leaves the fallback as it is.
    second = AliasChange.objects.latest("pk")
    alias_services.undo(second, who="mia", user=None, now=timezone.now(), told=lambda _: None)
    assert aliases.gateway_state() == {"aliases": {}, "fallbacks": {"llava:latest": wanted}}
    refused = staff.post(f"/engines/{Engine.objects.get().pk}/delete/", follow=True).content.decode()
    assert "sky is the fallback of llava:latest: remove that first." in refused
    newest = AliasChange.objects.latest("pk")
    staff.post(f"/engines/fallbacks/{newest.pk}/remove/")
    assert aliases.in_force() == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"cloud": "rain"}, "Select a valid choice"),
        ({"cloud_model": "two words"}, "without spaces"),
        ({"name": "a b"}, "is no model name"),
        ({"first_byte_s": "0"}, "greater than or equal to 0.1"),
        ({"on_queue": "-1"}, "greater than or equal to 0"),
    ],
)
def test_a_bad_fallback_is_said_at_its_field(
    staff: Client, cloud: CloudServer, fields: dict[str, str], said: str
) -> None:
    add(staff, url=cloud.url)
    given = {"name": "llava", "cloud": "sky", "cloud_model": "gpt-4o-mini", **fields}
    answer = staff.post("/engines/fallbacks/new/", given)
    assert (answer.status_code, said in answer.content.decode()) == (400, True)


def test_a_cloud_out_of_use_is_no_fallback(staff: Client, cloud: CloudServer) -> None:
    add(staff, url=cloud.url)
    staff.post("/engines/fallbacks/new/", {"name": "llava", "cloud": "sky", "cloud_model": "gpt-4o-mini"})
    Engine.objects.update(enabled=False)
    assert aliases.gateway_state()["fallbacks"] == {}


def test_keys_are_in_no_dump_of_what_can_be_read(staff: Client, cloud: CloudServer, capsys: Any) -> None:
    add(staff, url=cloud.url)
    call_command("dumpdata", "inference.engine")
    dumped = capsys.readouterr().out
    assert cloud.url in dumped
    assert KEY not in dumped


def test_the_providers_of_the_form_are_those_of_the_prices() -> None:
    assert PROVIDERS.keys() <= {each.id for each in get_snapshot().providers}
