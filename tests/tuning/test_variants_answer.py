"""From a profile's level to a real variant: made by a job on the real engine, measured, answering at the real gateway."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from inference.jobs import execution
from inference.jobs import services as jobs
from inference.models import JobState, ModelJob, Variant
from inference.sample_model.evaluate import FILE as SAMPLE
from inference.work.engine import EngineClient
from inference.work.plan import Measures
from tests.inference.gateways import generate
from tests.inference.serving import Server
from tuning import optimization, services
from tuning.models import Profile

FEW = Measures(n_prompts=2, n_tokens=4, n_scored=0, n_pairs=0, num_ctx=256)
MODEL, MADE = "aicleaner-sample:latest", "aicleaner-sample:q4_K_M"


@pytest.fixture
def engine(tmp_path: Any, settings: Any) -> Iterator[Server]:
    arguments = ("--models", str(tmp_path), "--max-loaded", "2", "--seed-model", f"aicleaner-sample={SAMPLE}")
    with Server("inference.engine", *arguments) as server:
        settings.ENGINES = [{"kind": "embedded", "url": server.url}]
        settings.DATA_DIR = tmp_path
        yield server


@pytest.fixture
def gateway(engine: Server, store: Any, valkey_url: str) -> Iterator[Server]:
    arguments = ("--valkey", valkey_url, "--engine", f"embedded={engine.url}")
    with Server("inference.gateway", *arguments) as server:
        yield server


@pytest.mark.django_db(transaction=True)
def test_a_level_becomes_a_variant_that_answers_until_the_undo(
    engine: Server, gateway: Server, admin: User
) -> None:
    def answering() -> str:
        return generate(gateway, options={"num_predict": 2}).headers.get("x-aicleaner-model", "itself")

    client = Client()
    client.force_login(admin)
    profile = Profile(name="small", quantization="int4", cache=False)
    services.save_profile(profile, by=None)
    activation = services.activate(profile, by=None)
    assert answering() == "itself"
    form = {"engine_kind": "embedded", "model": MODEL, "kind": "quantize", "what": "q4_K_M"}
    client.post("/tuning/profiles/small/variants/", form)
    job = ModelJob.objects.get()
    job.parameters["measures"] = FEW.model_dump()  # as thorough as a test needs
    job.save()
    assert jobs.start_next_job(host=job.host, now=timezone.now()) == job
    job.refresh_from_db()
    execution.execute(job, stopping=lambda: "", stopped_as=JobState.INTERRUPTED)
    job.refresh_from_db()
    assert (job.state, job.reason) == (JobState.DONE, "")
    optimization.optimize(now=timezone.now())
    assert answering() == MADE
    assert "answers for it</span>" in client.get("/tuning/profiles/small/variants/").content.decode()
    asked = EngineClient(engine.url, num_ctx=256)
    assert asked.tag(MODEL).digest == Variant.objects.get().source_digest  # the source is as it was
    asked.close()
    services.undo(activation, by=None)
    assert answering() == "itself"
