"""A full disk is known before the work."""

import shutil
from pathlib import Path

from inference.work.messages import WorkError


def need_room(folder: Path, n_bytes: int) -> None:
    """Raises WorkError when the disk of `folder` has less free."""
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise WorkError(
            f"The disk of {folder} has {free / 2**20:,.0f} MiB free, and {n_bytes / 2**20:,.0f} MiB are needed."
        )
