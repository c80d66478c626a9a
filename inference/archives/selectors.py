"""Questions about archives."""

import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from inference.models import ModelArchive
from inference.work.plan import Packing

N_GONE = 20
ENDINGS: dict[Packing, str] = {"gzip": "tar.gz", "zstd": "tar.zst"}


def suggested_file(model: str, now: datetime, packing: Packing) -> str:
    """`llama3:8b` -> `llama3-8b-20260102-030405-1f2e.tar.gz`; what is no letter or digit becomes a dash."""
    plain = re.sub(r"[^A-Za-z0-9._]+", "-", model.removesuffix(":latest"))[:150].strip("-.")
    return f"{plain}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}.{ENDINGS[packing]}"


@dataclass(frozen=True)
class Total:
    n: int
    size_bytes: int
    archive_bytes: int

    @property
    def saved_bytes(self) -> int:
        return self.size_bytes - self.archive_bytes

    @property
    def ratio(self) -> float | None:
        return self.archive_bytes / self.size_bytes if self.size_bytes else None


def present() -> list[ModelArchive]:
    return list(ModelArchive.objects.filter(state=ModelArchive.State.PRESENT))


def gone() -> list[ModelArchive]:
    return list(ModelArchive.objects.filter(state=ModelArchive.State.GONE).order_by("-gone_at")[:N_GONE])


def total(archives: list[ModelArchive]) -> Total:
    return Total(
        len(archives),
        sum(each.size_bytes for each in archives),
        sum(each.archive_bytes for each in archives),
    )


def find(name: str) -> ModelArchive | None:
    """By its file's name, or the newest one of a model."""
    known = ModelArchive.objects.filter(state=ModelArchive.State.PRESENT)
    return known.filter(file=name).first() or known.filter(name=name).first()


def as_json(archive: ModelArchive) -> dict[str, Any]:
    fields = ("name", "engine_kind", "quantization", "model_digest", "sha256", "size_bytes", "archive_bytes")
    return {
        **{name: getattr(archive, name) for name in fields},
        "ratio": archive.ratio,
        "file": str(archive.path),
        "took_s": archive.took_s,
        "state": archive.state,
    }
