"""Records what the readers read of this machine's /proc, twice a second apart: `python -m tests.monitoring.record FOLDER`."""

import sys
import time
from pathlib import Path

FILES = (
    *("stat", "loadavg", "meminfo", "vmstat", "diskstats", "net/dev", "cpuinfo"),
    *("pressure/cpu", "pressure/memory", "pressure/io"),
)


def main(folder: Path) -> None:
    for moment in ("first", "second"):
        for name in FILES:
            target = folder / moment / "proc" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(Path("/proc", name).read_bytes())
        for device in Path("/sys/block").iterdir():
            (folder / moment / "sys/block" / device.name).mkdir(parents=True, exist_ok=True)
            (folder / moment / "sys/block" / device.name / "size").write_text("0\n")
        time.sleep(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
