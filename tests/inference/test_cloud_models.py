"""Models of clouds on the page of models: names and use, which is all that is known of them."""

from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from aicleaner_site.valkey import ValkeyServer
from inference.gateway.pushed import ENGINE_KEYS
from safeguards.sealing import engine_secrets
from tests.inference import gateways
from tests.inference.cloud_server import KEY, cloud_server
from tests.inference.model_pages import request_of
from tests.inference.serving import Server
from tests.inference.test_engine_pages import SKY
from tests.product import wait_for


@pytest.mark.django_db(transaction=True)
def test_models_of_clouds_stand_on_the_page_of_models_with_their_use(
    staff: Client, engine: Server, own_valkey: ValkeyServer, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENGINE_KEYS, " ".join(engine_secrets.keys()))
    settings.VALKEY_URL = own_valkey.url
    settings.ENGINES = [{"kind": "embedded", "url": engine.url}]
    with cloud_server() as cloud, gateways.start(engine, own_valkey) as gateway:
        settings.GATEWAY_URL = gateway.url
        staff.post("/engines/new/", {**SKY, "url": cloud.url})

        def page(query: str = "") -> Any:
            return staff.get(f"/models/{query}").context["clouds"]

        wait_for(lambda: page() and page()[0].n == 2, "the gateway has asked the cloud")
        assert page()[0].used == []
        request_of("gpt-4o-mini", timezone.now(), engine_kind="sky")
        request_of("gpt-gone", timezone.now(), engine_kind="sky", client="other")
        (found,) = page()
        assert [(name, use.n_requests, use.tokens) for name, use in found.used] == [
            ("gpt-4o-mini", 1, 15),
            ("gpt-gone", 1, 15),
        ]
        assert found.others == ["text-embedding-3-small"]
        assert [name for name, _ in page("?q=GONE")[0].used] == ["gpt-gone"]
        assert page("?engine=embedded") == []
    text = staff.get("/models/").content.decode()
    assert "gpt-4o-mini" in text  # it was used, whether it can be asked or not
    assert KEY not in text
