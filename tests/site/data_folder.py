"""A data folder with something of everything in it, and the product's own commands on it."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.product import BASE_DIR

# Run in the folder, under its own secret key; prints what LOOK then has to find again.
FILL = """
import json
from django.core.management import call_command
call_command("migrate", interactive=False, verbosity=0)
import numpy as np
from django.conf import settings
from django.contrib.auth.models import User
from django.utils import timezone
from inference.api_keys.services import create_key
from inference.gateway.tokens import digest_of, gateway_secret
from inference.models import ApiKey, ModelArchive, ModelJob
from inference.prompt_sets.services import add_prompts
from monitoring.models import Rule
from tests.monitoring.alerting import make_rule
from tests.monitoring.receivers import configure
from tests.monitoring.stored import store
from tuning.models import Profile
from tuning.services import save_profile
User.objects.create_superuser("mia", password="tidy-up-the-room")
configure("webhook", {"url": "https://example.com/hook"}, {"signing_secret": "whsec_seal"}, name="Hook")
make_rule(name="Too hot")
store("box", 1_800_000_000, {"heat_percent": np.arange(900.0)})
profile = Profile(name="mine")
profile.set_values({"context": 1536})
save_profile(profile, by=None)
add_prompts("rooms", b'{"prompt": "kitchen", "answer": "sweep"}\\n', who="mia", now=timezone.now())
place = settings.DATA_DIR / "archive"
place.mkdir()
(place / "cold.tar.gz").write_bytes(bytes(range(256)) * 4096)
ModelArchive.objects.create(
    name="cold:model", engine_kind="embedded", file="cold.tar.gz", quantization="F16", model_digest="d", sha256="0" * 64,
    size_bytes=2**20, archive_bytes=2**20, took_s=1.0, who="mia", at=timezone.now())
print(json.dumps(create_key(ApiKey(name="home"), who="mia", user=None, now=timezone.now(), told=lambda delivery: None)))
"""
LOOK = """
import json, sys
import numpy as np
from django.conf import settings
from django.contrib.auth import authenticate
from inference.gateway.tokens import digest_of, gateway_secret
from inference.models import ApiKey, InferenceRequest, ModelArchive, ModelJob, PromptSet
from monitoring.models import ChannelConfig, Chunk, Rule, Series
from monitoring.store.packing import unpack
from safeguards.sealing import channel_secrets
from tuning.models import Profile
token = sys.argv[1]
heat = Series.objects.get(host="box", name="heat_percent")
found = [unpack(each.data) for each in Chunk.objects.filter(series=heat).order_by("start")]
print(json.dumps({
    "login": authenticate(username="mia", password="tidy-up-the-room") is not None,
    "secret": channel_secrets.unseal(ChannelConfig.objects.get(name="Hook").sealed),
    "rule": Rule.objects.get(name="Too hot").fire_at,
    "samples": np.concatenate(found).tolist() == list(range(900)),
    "profile": Profile.objects.get(name="mine").snapshot()["context"],
    "prompts": PromptSet.objects.get(name="rooms").n,
    "archive": [each.path.read_bytes() == bytes(range(256)) * 4096 for each in ModelArchive.objects.all()],
    "key": ApiKey.objects.get(name="home").digest == digest_of(token.encode(), gateway_secret(settings.SECRET_KEY)).hex(),
    "requests": sorted(InferenceRequest.objects.values_list("request_id", flat=True)),
    "jobs": sorted(ModelJob.objects.values_list("kind", flat=True)),
}))
"""
SETUP = "import django; django.setup()\n"


class DataFolder:
    def __init__(self, path: Path, **environment: str) -> None:
        self.path = path
        self.environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "aicleaner_site.settings",
            "AICLEANER_DATA_DIR": str(path),
            **environment,
        }
        self.environment.pop("AICLEANER_SECRET_KEY", None)  # it lies in the folder
        self.token = ""

    def start(self, *arguments: object, stderr: int = subprocess.DEVNULL) -> "subprocess.Popen[str]":
        """A command in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "manage.py", *map(str, arguments)],
            cwd=BASE_DIR,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            text=True,
        )

    def run(self, code: str, *arguments: str) -> Any:
        """`code` in the folder; what it prints, from JSON."""
        found = subprocess.run(
            [sys.executable, "-c", SETUP + code, *arguments],
            cwd=BASE_DIR,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=150,
        )
        assert found.returncode == 0, found.stderr
        return json.loads(found.stdout or "null")

    def make(self) -> "DataFolder":
        """The tables, a secret key, and something of everything."""
        self.path.mkdir(mode=0o700, parents=True)
        (self.path / "secret_key").write_text("the-key-of-this-folder")
        self.token = self.fill()
        return self

    def fill(self) -> str:
        """Something of everything; the API key that is among it."""
        return str(self.run(FILL))

    def copied_to(self, path: Path, **environment: str) -> "DataFolder":
        """Another one with the same content."""
        shutil.copytree(self.path, path)
        copy = DataFolder(path, **environment)
        copy.token = self.token
        return copy

    def look(self, token: str) -> dict[str, Any]:
        """RIGHT, where all is there. `token`: the API key that was made."""
        return dict(self.run(LOOK, token))

    def contents(self) -> dict[str, str]:
        """SHA-256 of every file but the lock."""
        return {
            str(each.relative_to(self.path)): sha256(each.read_bytes()).hexdigest()
            for each in sorted(self.path.rglob("*"))
            if each.is_file() and each.name != "up.lock"
        }

    def query(self, sql: str) -> list[Any]:
        with closing(
            sqlite3.connect(f"file:{quote(str(self.path / 'db.sqlite3'))}?mode=rw", uri=True)
        ) as found:
            rows = found.execute(sql).fetchall()
            found.commit()
            return rows


RIGHT = {
    "login": True,
    "secret": {"signing_secret": "whsec_seal"},
    "rule": 90.0,
    "samples": True,
    "profile": 1536,
    "prompts": 1,
    "archive": [True],
    "key": True,
    "requests": [],
    "jobs": [],
}
