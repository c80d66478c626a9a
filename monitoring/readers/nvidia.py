"""NVIDIA GPUs by NVML (package nvidia-ml-py). A call that a card does not support is remembered and not tried again
until the driver is loaded anew; a card that sleeps is not woken."""

import ctypes
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from monitoring.readers.base import Reader, Reading, Roots, Values, read_text

RETRY_EVERY_S = 60.0
SLOW_EVERY_S = 60.0
NVIDIA_VENDOR = "0x10de"


class Nvidia(Reader):
    name = "nvidia"

    def __init__(self, roots: Roots, nvml: Any = None) -> None:
        """`nvml`: a module like pynvml; left out, pynvml is loaded when there is a driver (it weighs 10 MB)."""
        super().__init__(roots)
        self.nvml = nvml
        self.handles: list[Any] = []
        self.reason = ""
        self._retry_at = 0.0
        self._unsupported: set[tuple[int, str]] = set()
        self._slow: dict[int, tuple[float, dict[str, Any]]] = {}

    def read(self, now: float) -> Reading:
        if not self.handles and now >= self._retry_at:
            self._retry_at = now + RETRY_EVERY_S
            self._connect()
        if not self.handles:
            return Reading(state={"nvidia": {"gpus": [], "reason": self.reason}})
        values: Values = {}
        gpus = []
        try:
            for number, handle in enumerate(self.handles):
                gpus.append(self._read_gpu(number, handle, now, values))
        except self.nvml.NVMLError as error:  # the driver went away: everything is found anew
            self._disconnect()
            self.reason = f"NVIDIA driver lost: {error}"
            return Reading(state={"nvidia": {"gpus": [], "reason": self.reason}})
        return Reading(values, {"nvidia": {"gpus": gpus, "reason": ""}})

    def close(self) -> None:
        if self.handles:
            self._disconnect()

    def _connect(self) -> None:
        if self._all_asleep():
            self.reason = "the NVIDIA GPU sleeps and is not woken"
            return
        if self.nvml is None:
            if not _driver_is_there():
                self.reason = "no NVIDIA driver (libnvidia-ml.so) on this machine"
                return
            import pynvml

            self.nvml = pynvml
        try:
            self.nvml.nvmlInit()
            count = self.nvml.nvmlDeviceGetCount()
            self.handles = [self.nvml.nvmlDeviceGetHandleByIndex(number) for number in range(count)]
        except self.nvml.NVMLError as error:
            self.handles = []
            self.reason = f"NVML: {error}"
            return
        if not self.handles:
            self.reason = "the NVIDIA driver finds no GPU"
        self._unsupported.clear()
        self._slow.clear()

    def _disconnect(self) -> None:
        self.handles = []
        with suppress(self.nvml.NVMLError):
            self.nvml.nvmlShutdown()

    def _all_asleep(self) -> bool:
        """By sysfs alone: the first NVML call would wake them."""
        states = [
            read_text(device / "power/runtime_status")
            for device in (self.roots.sys / "bus/pci/devices").glob("*")
            if read_text(device / "vendor") == NVIDIA_VENDOR
            and read_text(device / "class").startswith("0x03")
        ]
        return bool(states) and all(state == "suspended" for state in states)

    def _read_gpu(self, number: int, handle: Any, now: float, values: Values) -> dict[str, Any]:
        nvml = self.nvml

        def ask(name: str, *arguments: Any) -> Any:
            """The answer, or None where the card has none."""
            if (number, name) in self._unsupported:
                return None
            try:
                return getattr(nvml, name)(handle, *arguments)
            except nvml.NVMLError as error:
                code = getattr(error, "value", None)
                if code in (nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_UNINITIALIZED):
                    raise
                if code in (nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_NO_PERMISSION):
                    self._unsupported.add((number, name))
                return None

        slow = self._slow_tier(number, ask, now)
        busy, memory = ask("nvmlDeviceGetUtilizationRates"), ask("nvmlDeviceGetMemoryInfo")
        milliwatts, millijoules = ask("nvmlDeviceGetPowerUsage"), ask("nvmlDeviceGetTotalEnergyConsumption")
        bits = ask("nvmlDeviceGetCurrentClocksEventReasons")
        found: Values = {
            "util_percent": None if busy is None else float(busy.gpu),
            "memory_busy_percent": None if busy is None else float(busy.memory),
            "memory_used_bytes": None if memory is None else float(memory.used),
            "memory_total_bytes": None if memory is None else float(memory.total),
            "power_w": _scaled(milliwatts, 1e-3),
            "power_limit_w": slow["power_limit_w"],
            "energy_j": _scaled(millijoules, 1e-3),
            "temperature_celsius": _scaled(ask("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU), 1),
            "clock_mhz": _scaled(ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_GRAPHICS), 1),
            "memory_clock_mhz": _scaled(ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM), 1),
            "fan_percent": _scaled(ask("nvmlDeviceGetFanSpeed_v2", 0), 1),
            "throttle_bits": _scaled(bits, 1),
        }
        values |= {f"gpu_{name}{{gpu={number}}}": value for name, value in found.items()}
        processes = ask("nvmlDeviceGetComputeRunningProcesses")
        return {
            "index": number,
            "vendor": "NVIDIA",
            **slow["static"],
            "performance_state": ask("nvmlDeviceGetPerformanceState"),
            "throttle": throttle_names(bits),
            "processes": [{"pid": each.pid, "memory_bytes": each.usedGpuMemory} for each in processes or []],
        }

    def _slow_tier(self, number: int, ask: Callable[..., Any], now: float) -> dict[str, Any]:
        asked, found = self._slow.get(number, (-SLOW_EVERY_S, {}))
        if not found or now - asked >= SLOW_EVERY_S:
            try:
                driver = self.nvml.nvmlSystemGetDriverVersion()
            except self.nvml.NVMLError:
                driver = None
            found = {
                "power_limit_w": _scaled(ask("nvmlDeviceGetEnforcedPowerLimit"), 1e-3),
                "static": {
                    "name": _text(ask("nvmlDeviceGetName")),
                    "uuid": _text(ask("nvmlDeviceGetUUID")),
                    "driver": _text(driver),
                    "pcie_generation": ask("nvmlDeviceGetCurrPcieLinkGeneration"),
                    "pcie_width": ask("nvmlDeviceGetCurrPcieLinkWidth"),
                },
            }
            self._slow[number] = (now, found)
        return found


def _driver_is_there() -> bool:
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return False
    return True


THROTTLE = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal",
    0x40: "hardware thermal",
    0x80: "power brake",
}


def throttle_names(bits: int | None) -> list[str] | None:
    """Names of the reasons that slow the clocks; None when unknown."""
    return None if bits is None else [name for bit, name in THROTTLE.items() if int(bits) & bit]


def _scaled(value: Any, factor: float) -> float | None:
    return None if value is None else float(value) * factor


def _text(value: Any) -> str | None:
    return value.decode() if isinstance(value, bytes) else value
