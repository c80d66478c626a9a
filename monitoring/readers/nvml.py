"""One NVIDIA card by NVML: which values are asked how often, and what is remembered about a card that has none.

NVML's reference is NVIDIA's "NVML API Reference Guide"; `nvml` is a module like pynvml (package nvidia-ml-py)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from monitoring.readers.base import Rates, Roots, Values, read_text

SLOW_EVERY_S, PROCESSES_EVERY_S = 60.0, 5.0


@dataclass(frozen=True)
class Call:
    """`series` is the answer of `function` times `scale`; arguments that are names of NVML constants stand for those."""

    series: str
    function: str
    arguments: tuple[str | int, ...] = ()
    scale: float = 1.0

    @property
    def question(self) -> str:
        return question_of(self.function, self.arguments)


def question_of(function: str, arguments: Sequence[object]) -> str:
    """What a refusal is remembered by: the function and the named constants among its arguments."""
    return " ".join((function, *(each for each in arguments if isinstance(each, str))))


EACH_SECOND = (
    Call("power_w", "nvmlDeviceGetPowerUsage", scale=1e-3),  # mW; the mean of a second on most cards
    Call("energy_j", "nvmlDeviceGetTotalEnergyConsumption", scale=1e-3),  # mJ since the driver was loaded
    Call("temperature_celsius", "nvmlDeviceGetTemperature", ("NVML_TEMPERATURE_GPU",)),
    Call("clock_mhz", "nvmlDeviceGetClockInfo", ("NVML_CLOCK_GRAPHICS",)),
    Call("memory_clock_mhz", "nvmlDeviceGetClockInfo", ("NVML_CLOCK_MEM",)),
    Call("performance_state", "nvmlDeviceGetPerformanceState"),  # 0 is the fastest
    Call("fan_percent", "nvmlDeviceGetFanSpeed_v2", (0,)),
)
EACH_MINUTE = (
    Call("power_limit_w", "nvmlDeviceGetEnforcedPowerLimit", scale=1e-3),
    Call("pcie_generation", "nvmlDeviceGetCurrPcieLinkGeneration"),
    Call("pcie_width", "nvmlDeviceGetCurrPcieLinkWidth"),
    Call(
        "ecc_corrected_total",
        "nvmlDeviceGetTotalEccErrors",
        ("NVML_MEMORY_ERROR_TYPE_CORRECTED", "NVML_AGGREGATE_ECC"),
    ),
    Call(
        "ecc_uncorrected_total",
        "nvmlDeviceGetTotalEccErrors",
        ("NVML_MEMORY_ERROR_TYPE_UNCORRECTED", "NVML_AGGREGATE_ECC"),
    ),
)
REMAPPED = ("remapped_corrected", "remapped_uncorrected", "remapping_pending", "remapping_failed")

# Fields of nvmlDeviceGetFieldValues: gauges with their scale, counters whose rate per second times the scale is the value.
# A byte counter may wrap; the second in which it does is unknown.
FIELD_GAUGES = {
    "power_instant_w": ("NVML_FI_DEV_POWER_INSTANT", 1e-3),
    "memory_temperature_celsius": ("NVML_FI_DEV_MEMORY_TEMP", 1.0),
}
_NS_TO_PERCENT = 1e-7
FIELD_RATES = {
    "pcie_transmit_bytes_per_s": ("NVML_FI_DEV_PCIE_COUNT_TX_BYTES", 1.0),
    "pcie_receive_bytes_per_s": ("NVML_FI_DEV_PCIE_COUNT_RX_BYTES", 1.0),
    "held_power_cap_percent": ("NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_POWER_CAP", _NS_TO_PERCENT),
    "held_sync_boost_percent": ("NVML_FI_DEV_CLOCKS_EVENT_REASON_SYNC_BOOST", _NS_TO_PERCENT),
    "held_software_thermal_percent": ("NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN", _NS_TO_PERCENT),
    "held_hardware_thermal_percent": ("NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN", _NS_TO_PERCENT),
    "held_power_brake_percent": ("NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN", _NS_TO_PERCENT),
}
FIELDS = {**FIELD_GAUGES, **FIELD_RATES}
# Bits of the instant for what has no counter of time, or none on this card: a second in which it is seen counts wholly.
HELD_BITS = {
    "held_power_cap_percent": 0x4,
    "held_hardware_slowdown_percent": 0x8,
    "held_sync_boost_percent": 0x10,
    "held_software_thermal_percent": 0x20,
    "held_hardware_thermal_percent": 0x40,
    "held_power_brake_percent": 0x80,
}

SERIES_OF = {
    **{each.question: each.series for each in EACH_SECOND + EACH_MINUTE},
    **{constant: series for series, (constant, _) in FIELDS.items()},
    "nvmlDeviceGetUtilizationRates": "util_percent",
    "nvmlDeviceGetMemoryInfo": "memory_used_bytes",
    "nvmlDeviceGetMemoryInfo nvmlMemory_v2": "memory_reserved_bytes",
    "nvmlDeviceGetCurrentClocksThrottleReasons": "throttle_bits",
    "nvmlDeviceGetRemappedRows": "remapped rows",
    "nvmlDeviceGetProcessUtilization": "utilization of processes",
    "nvmlDeviceGetComputeRunningProcesses": "processes",
}
IDLE_BIT = 0x1
HELD_BACK = {
    0x2: "application clocks",
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal",
    0x40: "hardware thermal",
    0x80: "power brake",
    0x100: "display clocks",
}


def held_back_by(bits: int | None) -> list[str] | None:
    """Names of the reasons for which the clocks are lower than they could be; None when unknown. Being idle is none."""
    if bits is None:
        return None
    unknown = int(bits) & ~(sum(HELD_BACK) | IDLE_BIT)
    return [name for bit, name in HELD_BACK.items() if int(bits) & bit] + ([hex(unknown)] if unknown else [])


class LostError(Exception):
    """The driver is gone, or the card from its bus: everything has to be found anew."""


class Card:
    """Asks one card. What it says it does not support is not asked again as long as this object lives."""

    def __init__(self, nvml: Any, number: int, handle: Any, roots: Roots) -> None:
        self.nvml, self.number, self.handle, self.roots = nvml, number, handle, roots
        self.missing: dict[
            str, str
        ] = {}  # question (function and arguments, or field) -> why it has no answer
        self._rates = Rates()
        self._fields = dict(FIELDS)
        self._minute: tuple[float, Values, dict[str, Any]] = (-SLOW_EVERY_S, {}, {})
        self._processes: tuple[float, list[dict[str, Any]]] = (-PROCESSES_EVERY_S, [])
        self._seen_until = 0  # µs since 1970, of process utilization

    def read(self, now: float) -> tuple[Values, dict[str, Any]]:
        """(series -> value, what is no number). Raises LostError."""
        if now - self._minute[0] >= SLOW_EVERY_S:
            self._minute = (now, *self._read_minute())
        if now - self._processes[0] >= PROCESSES_EVERY_S:
            self._processes = (now, self._read_processes())
        values: Values = {**self._minute[1], **self._calls(EACH_SECOND)}
        busy = self._ask("nvmlDeviceGetUtilizationRates")
        values["util_percent"] = None if busy is None else float(busy.gpu)
        values["memory_busy_percent"] = None if busy is None else float(busy.memory)  # of its bandwidth
        values |= self._read_memory()
        bits = self._ask("nvmlDeviceGetCurrentClocksEventReasons")
        if bits is None:  # its name in drivers before 535
            bits = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        values["throttle_bits"] = None if bits is None else float(bits)
        values |= self._read_fields(now)
        for series, bit in HELD_BITS.items():
            if series not in self._fields:
                values[series] = None if bits is None else 100.0 * bool(int(bits) & bit)
        if all(value is None for value in values.values()):
            raise LostError("no call is answered")
        state = {
            "index": self.number,
            "vendor": "NVIDIA",
            **self._minute[2],
            "throttle": held_back_by(bits),
            "idle": None if bits is None else bool(int(bits) & IDLE_BIT),
            "processes": self._processes[1],
            "missing": {SERIES_OF.get(question, question): why for question, why in self.missing.items()},
        }
        return {f"gpu_{name}{{gpu={self.number}}}": value for name, value in values.items()}, state

    def _ask(self, function: str, *arguments: str | int | list[int]) -> Any:
        """The answer, or None where the card has none."""
        question = question_of(function, arguments)
        if question in self.missing:
            return None
        found = [getattr(self.nvml, each) if isinstance(each, str) else each for each in arguments]
        try:
            return getattr(self.nvml, function)(self.handle, *found)
        except self.nvml.NVMLError as error:
            self._note(question, error.value, str(error))
            return None

    def _note(self, question: str, code: int, text: str) -> None:
        nvml = self.nvml
        lost = (nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_UNINITIALIZED, nvml.NVML_ERROR_DRIVER_NOT_LOADED)
        if code in lost:
            raise LostError(text)
        for_good = {
            nvml.NVML_ERROR_NOT_SUPPORTED: "not supported by this card",
            nvml.NVML_ERROR_NO_PERMISSION: "not allowed for this user",
            nvml.NVML_ERROR_FUNCTION_NOT_FOUND: "not known to this driver",
            nvml.NVML_ERROR_INVALID_ARGUMENT: "not known to this driver",
            nvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH: "not known to this driver",
            nvml.NVML_ERROR_DEPRECATED: "no longer offered by this driver",
        }
        if code in for_good:
            self.missing[question] = for_good[code]

    def _calls(self, calls: tuple[Call, ...]) -> Values:
        answers = ((each, self._ask(each.function, *each.arguments)) for each in calls)
        return {each.series: None if found is None else float(found) * each.scale for each, found in answers}

    def _read_memory(self) -> Values:
        """By version 2 what the driver keeps for itself is counted apart; an older driver counts it as used."""
        memory = self._ask("nvmlDeviceGetMemoryInfo", "nvmlMemory_v2")
        reserved = None if memory is None else float(memory.reserved)
        if memory is None:
            memory = self._ask("nvmlDeviceGetMemoryInfo")
        return {
            "memory_used_bytes": None if memory is None else float(memory.used),
            "memory_total_bytes": None if memory is None else float(memory.total),
            "memory_reserved_bytes": reserved,
        }

    def _read_fields(self, now: float) -> Values:
        values: Values = dict.fromkeys(FIELDS)
        for series, raw in self._field_values():
            if series in FIELD_GAUGES:
                values[series] = raw * FIELD_GAUGES[series][1]
            else:
                rate = self._rates.per_s(series, raw, now)
                scaled = None if rate is None else rate * FIELD_RATES[series][1]
                values[series] = min(scaled, 100.0) if scaled is not None and "percent" in series else scaled
        return values

    def _field_values(self) -> Iterator[tuple[str, float]]:
        """(series, number) of each field that has one now; all in one call, each with a return code of its own."""
        ids = {getattr(self.nvml, constant): series for series, (constant, _) in self._fields.items()}
        found = (self._ask("nvmlDeviceGetFieldValues", list(ids)) or ()) if ids else ()
        for each in found:
            series = ids[each.fieldId]
            if each.nvmlReturn == self.nvml.NVML_SUCCESS:
                yield series, self._number(each)
                continue
            question = self._fields[series][0]
            self._note(question, each.nvmlReturn, f"field {question}")
            if question in self.missing:
                del self._fields[series]

    def _number(self, field: Any) -> float:
        nvml = self.nvml
        member = {
            nvml.NVML_VALUE_TYPE_DOUBLE: "dVal",
            nvml.NVML_VALUE_TYPE_UNSIGNED_INT: "uiVal",
            nvml.NVML_VALUE_TYPE_UNSIGNED_LONG: "ulVal",
            nvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG: "ullVal",
            nvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG: "sllVal",
            nvml.NVML_VALUE_TYPE_SIGNED_INT: "siVal",
            nvml.NVML_VALUE_TYPE_UNSIGNED_SHORT: "usVal",
        }[field.valueType]
        return float(getattr(field.value, member))

    def _read_minute(self) -> tuple[Values, dict[str, Any]]:
        rows = self._ask("nvmlDeviceGetRemappedRows")
        values = self._calls(EACH_MINUTE)
        values |= {name: None if rows is None else float(rows[n]) for n, name in enumerate(REMAPPED)}
        state = {"name": self._ask("nvmlDeviceGetName"), "uuid": self._ask("nvmlDeviceGetUUID")}
        return values, state | {
            "pcie_generation": values["pcie_generation"],
            "pcie_width": values["pcie_width"],
        }

    def _read_processes(self) -> list[dict[str, Any]]:
        """Compute processes only: the list of graphics ones costs milliseconds. Memory is None where the driver does not
        tell it (MIG, WDDM, containers)."""
        running = self._ask("nvmlDeviceGetComputeRunningProcesses") or []
        samples = self._ask("nvmlDeviceGetProcessUtilization", self._seen_until) or []  # none: all were idle
        newest = {each.pid: each for each in sorted(samples, key=lambda each: each.timeStamp)}
        self._seen_until = max((each.timeStamp for each in samples), default=self._seen_until)
        return [
            {
                "pid": each.pid,
                "name": read_text(self.roots.proc / str(each.pid) / "comm") or None,
                "memory_bytes": each.usedGpuMemory,
                "util_percent": float(newest[each.pid].smUtil) if each.pid in newest else None,
            }
            for each in running
        ]
