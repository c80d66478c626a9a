"""A full disk, or a full memory, is known before the work."""

import shutil
from pathlib import Path

import psutil

from inference.work.messages import WorkError


def need_room(folder: Path, n_bytes: int) -> None:
    """Raises WorkError when the disk of `folder` has less free."""
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise WorkError(
            f"The disk of {folder} has {free / 2**20:,.0f} MiB free, and {n_bytes / 2**20:,.0f} MiB are needed."
        )


def need_memory(n_bytes: int) -> None:
    """Raises WorkError when this machine has less that programs could still take."""
    free = psutil.virtual_memory().available
    if free < n_bytes:
        raise WorkError(
            f"{free / 2**20:,.0f} MiB of memory are free, and about {n_bytes / 2**20:,.0f} MiB are needed."
        )
