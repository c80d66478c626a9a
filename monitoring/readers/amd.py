"""AMD GPUs from sysfs (driver amdgpu); ROCm is not needed. What can't be read stays None, with the reason.

The files are those of the kernel's documentation, "AMDGPU driver: GPU power/thermal controls and monitoring"."""

from pathlib import Path
from typing import Any

from monitoring.readers.base import Reader, Reading, Roots, Values, read_text

AMD_VENDOR = "0x1002"
FIRST_INDEX = 100  # series of AMD cards never mix with NVIDIA's
RESCAN_EVERY_S = 60.0
# series -> (files, the first that is there counts, and what their number is multiplied with)
DEVICE = {
    "util_percent": (("gpu_busy_percent",), 1.0),
    "memory_busy_percent": (("mem_busy_percent",), 1.0),
    "memory_used_bytes": (("mem_info_vram_used",), 1.0),
    "memory_total_bytes": (("mem_info_vram_total",), 1.0),
    "gtt_used_bytes": (("mem_info_gtt_used",), 1.0),  # memory of the machine that the card uses
    "gtt_total_bytes": (("mem_info_gtt_total",), 1.0),
}
HWMON = {
    "power_w": (("power1_average", "power1_input"), 1e-6),
    "power_limit_w": (("power1_cap",), 1e-6),
    "temperature_celsius": (("temp1_input",), 1e-3),
    "hotspot_temperature_celsius": (("temp2_input",), 1e-3),
    "memory_temperature_celsius": (("temp3_input",), 1e-3),
    "clock_mhz": (("freq1_input",), 1e-6),
    "memory_clock_mhz": (("freq2_input",), 1e-6),
    "fan_rpm": (("fan1_input",), 1.0),
}
ASLEEP = "the card sleeps and is not woken"


class Amd(Reader):
    name = "amd"

    def __init__(self, roots: Roots) -> None:
        super().__init__(roots)
        self._cards: list[tuple[Path, Path | None]] = []  # device, hwmon
        self._scanned = -RESCAN_EVERY_S

    def read(self, now: float) -> Reading:
        if now - self._scanned >= RESCAN_EVERY_S:
            self._cards, self._scanned = self._find(), now
        values: Values = {}
        gpus = [_read_card(FIRST_INDEX + n, *card, values) for n, card in enumerate(self._cards)]
        reason = "" if gpus else "no AMD GPU (amdgpu driver) on this machine"
        return Reading(values, {"gpus:amd": {"gpus": gpus, "reason": reason}})

    def _find(self) -> list[tuple[Path, Path | None]]:
        devices = sorted((self.roots.sys / "class/drm").glob("card[0-9]*/device"))
        ours = [each for each in devices if read_text(each / "vendor") == AMD_VENDOR]
        return [(each, next(iter(sorted((each / "hwmon").glob("hwmon*"))), None)) for each in ours]


def _read_card(number: int, device: Path, hwmon: Path | None, values: Values) -> dict[str, Any]:
    asleep = read_text(device / "power/runtime_status") == "suspended"
    missing: dict[str, str] = {}
    for folder, wanted in ((device, DEVICE), (hwmon, HWMON)):
        for name, (files, scale) in wanted.items():
            if asleep:
                found: float | str = ASLEEP
            elif folder is None:
                found = "the driver shows no sensors (hwmon)"
            else:
                found = _read(folder, files)
            values[f"gpu_{name}{{gpu={number}}}"] = None if isinstance(found, str) else found * scale
            if isinstance(found, str):
                missing[name] = found
    name = read_text(device / "product_name") or f"AMD GPU {read_text(device / 'device')}"
    return {
        "index": number,
        "vendor": "AMD",
        "name": name,
        "driver": "amdgpu",
        "throttle": None,
        "processes": [],
        "missing": missing,
    }


def _read(folder: Path, files: tuple[str, ...]) -> float | str:
    """The number in the first of the files that is there, or why there is none."""
    why = "not offered by the driver for this card"
    for name in files:
        try:
            return float((folder / name).read_bytes())
        except FileNotFoundError:
            continue
        except OSError as error:
            why = f"{name} can't be read: {error.strerror}"
        except ValueError:
            why = f"{name} holds no number"
    return why
