"""Model jobs on a disk that fills while they write: the kernel refuses that a file grows, and nothing half-written is listed."""

from typing import Any

import pytest

from inference.jobs import execution
from inference.models import JobState, ModelArchive, Variant
from inference.work.engine import EngineClient
from tests.disk import no_file_over
from tests.inference.serving import Server
from tests.inference.test_jobs import make_job, run_it

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("engines", "valkey_url")]


@pytest.fixture
def engines(engine: Server, settings: Any) -> None:
    settings.ENGINES = [{"kind": "embedded", "url": engine.url}]


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("quantize", {"level": "q8_0", "maker": "own"}),
        ("prune", {"layers": 1}),
        pytest.param(
            "distill", {"distillation": {"layers": 2, "steps": 2, "batch": 2}}, marks=pytest.mark.pytorch
        ),
        ("archive", {}),
    ],
)
def test_a_disk_that_fills_amid_writing_leaves_nothing(
    client_of: EngineClient, kind: str, changes: dict[str, Any]
) -> None:
    before = client_of.tags()
    target = "" if kind == "archive" else "made:full"
    job = make_job(kind=kind, target=target, **changes)
    with no_file_over(2**20):
        run_it(job)
    assert job.state == JobState.FAILED
    assert "written" in job.reason
    assert (
        "File too large" in job.reason
    )  # what the system says for a limit; for a disk: No space left on device
    assert client_of.tags() == before
    assert not Variant.objects.exists()
    assert not ModelArchive.objects.exists()
    assert not execution.work_folder(job).exists()
