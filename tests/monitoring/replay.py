"""NVML as cards answered it: a recording of `recorded/nvml` behind the functions, types and errors of the real pynvml."""

import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml

FOLDER = Path(__file__).with_name("recorded") / "nvml"
RECORDINGS = sorted(file.stem for file in FOLDER.glob("*.json"))


class Replay:
    """Stands in for the module pynvml; `changed` and `fields` override answers."""

    def __init__(self, recording: str, **changed: Any) -> None:
        found = json.loads((FOLDER / f"{recording}.json").read_text())
        self.driver = found["driver"]
        self.calls: dict[str, Any] = {**found["calls"], **found["by_hand"]["calls"], **changed}
        self.fields: dict[str, Any] = {**found["fields"], **found["by_hand"]["fields"]}
        self.asked: list[str] = []
        self.fields_asked: list[list[int]] = []
        self.n_init = 0
        self.hang: threading.Event | None = None  # calls wait for it

    def __getattr__(self, name: str) -> Any:
        real = getattr(pynvml, name)  # a name that pynvml lacks is an error here too
        if not name.startswith("nvmlDeviceGet"):
            return real
        return lambda _handle, *arguments: self._answer(name, list(arguments))

    def nvmlInit(self) -> None:  # noqa: N802
        self.n_init += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        pass

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return str(self.driver)

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 1

    def nvmlDeviceGetHandleByIndex(self, number: int) -> int:  # noqa: N802
        return number

    def nvmlDeviceGetHandleByPciBusId(self, address: str) -> str:  # noqa: N802
        self.asked.append(f"handle {address}")
        return address

    def nvmlDeviceGetFieldValues(self, handle: Any, ids: list[int]) -> Any:  # noqa: N802
        self.fields_asked.append(ids)
        values = {getattr(pynvml, name): value for name, value in self.fields.items()}
        found = (pynvml.c_nvmlFieldValue_t * len(ids))()
        for each, number in zip(found, ids, strict=True):
            each.fieldId = number
            answer = values.get(number, "UNKNOWN")
            if isinstance(answer, str):
                each.nvmlReturn = getattr(pynvml, f"NVML_ERROR_{answer}")
            else:
                each.valueType = pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG
                each.value.ullVal = answer
        return found

    def _answer(self, function: str, arguments: list[Any]) -> Any:
        self.asked.append(function)
        if self.hang is not None:
            self.hang.wait()
        for question in sorted(self.calls, key=len, reverse=True):
            name, *constants = question.split()
            if (
                name == function
                and [getattr(pynvml, each) for each in constants] == arguments[: len(constants)]
            ):
                return _shaped(self.calls[question])
        raise pynvml.NVMLError(pynvml.NVML_ERROR_UNKNOWN)


def _shaped(answer: Any) -> Any:
    if isinstance(answer, str) and hasattr(pynvml, f"NVML_ERROR_{answer}"):
        raise pynvml.NVMLError(getattr(pynvml, f"NVML_ERROR_{answer}"))
    if isinstance(answer, dict):
        return SimpleNamespace(**answer)
    if isinstance(answer, list) and answer and isinstance(answer[0], dict):
        return [SimpleNamespace(**each) for each in answer]
    return answer
