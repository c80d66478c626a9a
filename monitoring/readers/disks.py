"""Disk traffic and business from /proc/diskstats, fill of the mounted file systems (each minute)."""

import os
import re

from monitoring.readers.base import ProcFile, Rates, Reader, Reading, Roots, Values, label, read_bytes

SECTOR_BYTES = 512
FILL_EVERY_S = 60.0
NOT_DISKS = ("loop", "ram", "zram", "fd", "sr", "dm-", "md", "nbd")
MAX_MOUNTS = 12
_ESCAPED = re.compile(rb"\\([0-7]{3})")  # blank, tab, newline and backslash in the name of a mount


class Disks(Reader):
    name = "disks"

    def __init__(self, roots: Roots) -> None:
        super().__init__(roots)
        self.stats = ProcFile(roots.proc / "diskstats", 2**20)
        self.rates = Rates()
        self._whole: dict[str, bool] = {}
        self._fill: tuple[float, Values] = (-FILL_EVERY_S, {})

    def read(self, now: float) -> Reading:
        values: Values = {}
        for line in self.stats.read().decode().split("\n"):
            fields = line.split()
            if len(fields) < 14 or not self._is_whole_disk(fields[2]):
                continue
            device = label(fields[2])
            for series, position in (("read", 5), ("write", 9)):
                key = f"disk_{series}_bytes_per_s{{device={device}}}"
                values[key] = self.rates.per_s(key, int(fields[position]) * SECTOR_BYTES, now)
            key = f"disk_util_percent{{device={device}}}"
            busy_ms_per_s = self.rates.per_s(key, int(fields[12]), now)
            values[key] = None if busy_ms_per_s is None else min(busy_ms_per_s / 10, 100.0)
        if now - self._fill[0] >= FILL_EVERY_S:
            self._fill = (now, self._read_fill())
        return Reading(values | self._fill[1])

    def close(self) -> None:
        self.stats.close()

    def _is_whole_disk(self, device: str) -> bool:
        known = self._whole.get(device)
        if known is None:
            known = not device.startswith(NOT_DISKS) and (self.roots.sys / "block" / device).exists()
            self._whole[device] = known
        return known

    def _read_fill(self) -> Values:
        values: Values = {}
        seen: set[bytes] = set()
        for line in read_bytes(self.roots.proc / "self/mounts").split(b"\n"):
            source, _, rest = line.partition(b" ")
            mount = mount_point(rest.partition(b" ")[0])
            real = source.startswith(b"/dev/") and not source.startswith(b"/dev/loop")
            if not (real or mount == b"/") or source in seen or len(seen) >= MAX_MOUNTS:
                continue
            if mount != b"/" and not os.path.isdir(mount):  # noqa: PTH112 - a file bound into a container
                continue
            seen.add(source)
            try:
                found = os.statvfs(mount)
            except OSError:
                continue
            used = found.f_blocks - found.f_bfree
            usable = used + found.f_bavail  # as df: what is kept for root counts as neither
            if usable:
                name = label(mount.decode(errors="replace"))
                values[f"disk_used_percent{{mount={name}}}"] = 100 * used / usable
                values[f"disk_free_bytes{{mount={name}}}"] = found.f_bavail * found.f_frsize
        return values


def mount_point(escaped: bytes) -> bytes:
    """The path in its own bytes, some of which /proc/self/mounts writes as octal numbers."""
    return _ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), escaped)
