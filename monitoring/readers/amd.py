"""AMD GPUs from sysfs; ROCm is not needed. What the card or driver does not offer stays None."""

from pathlib import Path
from typing import Any

from monitoring.readers.base import Reader, Reading, Roots, Values, read_number, read_text

AMD_VENDOR = "0x1002"
FIRST_INDEX = 100  # series of AMD cards never mix with NVIDIA's
RESCAN_EVERY_S = 60.0


class Amd(Reader):
    name = "amd"

    def __init__(self, roots: Roots) -> None:
        super().__init__(roots)
        self._cards: list[Path] = []
        self._scanned = -RESCAN_EVERY_S

    def read(self, now: float) -> Reading:
        if now - self._scanned >= RESCAN_EVERY_S:
            found = sorted((self.roots.sys / "class/drm").glob("card[0-9]*/device"))
            self._cards = [each for each in found if read_text(each / "vendor") == AMD_VENDOR]
            self._scanned = now
        values: Values = {}
        gpus = [self._read_card(FIRST_INDEX + n, card, values) for n, card in enumerate(self._cards)]
        reason = "" if gpus else "no AMD GPU (amdgpu driver) on this machine"
        return Reading(values, {"amd": {"gpus": gpus, "reason": reason}})

    def _read_card(self, number: int, card: Path, values: Values) -> dict[str, Any]:
        asleep = read_text(card / "power/runtime_status") == "suspended"
        hwmon = next(iter(sorted((card / "hwmon").glob("hwmon*"))), None)

        def sensor(name: str, scale: float) -> float | None:
            return None if hwmon is None or asleep else read_number(hwmon / name, scale)

        def field(name: str) -> float | None:
            return None if asleep else read_number(card / name)

        power = sensor("power1_average", 1e-6)
        found: Values = {
            "util_percent": field("gpu_busy_percent"),
            "memory_busy_percent": field("mem_busy_percent"),
            "memory_used_bytes": field("mem_info_vram_used"),
            "memory_total_bytes": field("mem_info_vram_total"),
            "power_w": power if power is not None else sensor("power1_input", 1e-6),
            "power_limit_w": sensor("power1_cap", 1e-6),
            "temperature_celsius": sensor("temp1_input", 1e-3),
            "clock_mhz": sensor("freq1_input", 1e-6),
            "memory_clock_mhz": sensor("freq2_input", 1e-6),
        }
        values |= {f"gpu_{name}{{gpu={number}}}": value for name, value in found.items()}
        missing = sorted(name for name, value in found.items() if value is None)
        name = read_text(card / "product_name") or f"AMD GPU {read_text(card / 'device')}"
        why = "the card sleeps and is not woken" if asleep else "not offered by the driver"
        return {
            "index": number,
            "vendor": "AMD",
            "name": name,
            "driver": "amdgpu",
            "throttle": None,
            "missing": dict.fromkeys(missing, why),
        }
