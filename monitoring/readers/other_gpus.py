"""GPUs that no reader reads yet: named, so that nobody takes their silence for their absence."""

from typing import Any

from monitoring.readers.base import Reader, Reading, read_text

INTEL_VENDOR, APPLE_DRIVER = "0x8086", "asahi"


class OtherGpus(Reader):
    name = "other_gpus"
    every_s = 60.0

    def read(self, now: float) -> Reading:
        found = set()
        for device in (self.roots.sys / "class/drm").glob("card[0-9]*/device"):
            if read_text(device / "vendor") == INTEL_VENDOR:
                found.add("Intel")
            elif f"DRIVER={APPLE_DRIVER}" in read_text(device / "uevent").split():
                found.add("Apple")
        reason = "; ".join(f"{maker} GPU: there is no reader for it" for maker in sorted(found))
        state: dict[str, Any] = {"gpus": [], "reason": reason}
        return Reading(state={"gpus:other": state})
