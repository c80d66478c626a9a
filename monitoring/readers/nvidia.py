"""NVIDIA GPUs by NVML (package nvidia-ml-py), asked in one thread of their own: NVML calls wait for each other in the
driver, and one that hangs must not delay a sample. A card that sleeps is not woken."""

import ctypes
from contextlib import suppress
from typing import Any

from monitoring.readers.base import Poller, Reader, Reading, Roots, Values, read_text
from monitoring.readers.nvml import Card, LostError

RETRY_EVERY_S = RESCAN_EVERY_S = 60.0
LATE_S = 5.0
VENDOR, DISPLAY_CLASSES = "0x10de", "0x03"


class Nvidia(Reader):
    name = "nvidia"

    def __init__(self, roots: Roots, nvml: Any = None) -> None:
        super().__init__(roots)
        self._poller = Poller("nvidia", Driver(roots, nvml).read)

    def read(self, now: float) -> Reading:
        silent_s = self._poller.silent_s(now)
        if silent_s > LATE_S:
            return _nothing(f"the NVIDIA driver has not answered for {silent_s:.0f} s")
        return self._poller.newest() or _nothing("the NVIDIA driver has not answered yet")

    def wait_for_first(self, timeout_s: float) -> None:
        self._poller.wait_for_first(timeout_s)

    def close(self) -> None:
        """NVML is left to the end of the process: closing it would wait for a call that hangs."""
        self._poller.close()


class Driver:
    """Finds the cards, loses them when the driver goes, and finds them anew: what a card did not support is asked again."""

    def __init__(self, roots: Roots, nvml: Any = None) -> None:
        """`nvml`: a module like pynvml; left out, pynvml is loaded when there is a driver (it weighs 10 MB)."""
        self.roots, self.nvml = roots, nvml
        # By PCI address; by index where sysfs does not show the cards. None: not for this process to see.
        self.cards: dict[str, Card | None] = {}
        self._addresses: tuple[float, list[str]] = (-RESCAN_EVERY_S, [])
        self._version: str | None = None
        self._loaded: int | None = None
        self._connected = False
        self._retry_at = 0.0
        self._reason = ""

    def read(self, now: float) -> Reading:
        if self._connected and self._module_mark() != self._loaded:
            self._disconnect(now, "the NVIDIA driver was loaded anew")
            self._retry_at = now
        if now - self._addresses[0] >= RESCAN_EVERY_S:
            self._addresses = (now, self._find_addresses())
            self.cards = {address: card for address, card in self.cards.items() if card is not None}
        asleep = {address: self._sleeps(address) for address in self._addresses[1]}
        if not self._connected and now >= self._retry_at:
            self._connect(now, asleep)
        if not self._connected:
            return _nothing(self._reason)
        values: Values = {}
        gpus = []
        try:
            for number, address in enumerate(asleep or self._by_index()):
                if asleep.get(address):
                    gpus.append(_sleeping(number))
                elif (card := self._card(number, address)) is not None:
                    found, state = card.read(now)
                    values |= found
                    gpus.append({**state, "driver": self._version})
        except LostError as error:
            self._disconnect(now, f"the NVIDIA driver is lost: {error}")
            return _nothing(self._reason)
        reason = "" if gpus else "the NVIDIA driver finds no GPU"
        return Reading(values, {"gpus:nvidia": {"gpus": gpus, "reason": reason}})

    def _connect(self, now: float, asleep: dict[str, bool]) -> None:
        self._retry_at = now + RETRY_EVERY_S
        if asleep and all(asleep.values()):
            self._retry_at = now
            self._reason = "the NVIDIA GPU sleeps and is not woken"
            return
        if self.nvml is None:
            if not _library_is_there():
                self._reason = (
                    "an NVIDIA GPU is there, but not its driver (libnvidia-ml.so.1)"
                    if asleep
                    else "no NVIDIA driver (libnvidia-ml.so.1) on this machine"
                )
                return
            import pynvml

            self.nvml = pynvml
        try:
            self.nvml.nvmlInit()
            self._version = self.nvml.nvmlSystemGetDriverVersion()
        except self.nvml.NVMLError as error:
            self._reason = f"NVML: {error}"
            return
        self._connected, self._loaded = True, self._module_mark()

    def _disconnect(self, now: float, reason: str) -> None:
        self.cards.clear()
        self._connected, self._reason, self._retry_at = False, reason, now + RETRY_EVERY_S
        with suppress(self.nvml.NVMLError):
            self.nvml.nvmlShutdown()

    def _card(self, number: int, address: str) -> Card | None:
        """The card at an address; None where this process may not see it (a container with a part of the cards)."""
        if address not in self.cards:
            self.cards[address] = None
            with suppress(self.nvml.NVMLError):
                if ":" in address:
                    handle = self.nvml.nvmlDeviceGetHandleByPciBusId(address)
                else:
                    handle = self.nvml.nvmlDeviceGetHandleByIndex(int(address))
                self.cards[address] = Card(self.nvml, number, handle, self.roots)
        return self.cards[address]

    def _by_index(self) -> list[str]:
        try:
            return [str(number) for number in range(self.nvml.nvmlDeviceGetCount())]
        except self.nvml.NVMLError as error:
            raise LostError(str(error)) from error

    def _find_addresses(self) -> list[str]:
        """PCI addresses of the cards, in NVML's order; by sysfs, since the first NVML call would wake them."""
        devices = sorted((self.roots.sys / "bus/pci/devices").glob("*"))
        return [
            each.name
            for each in devices
            if read_text(each / "vendor") == VENDOR and read_text(each / "class").startswith(DISPLAY_CLASSES)
        ]

    def _sleeps(self, address: str) -> bool:
        return read_text(self.roots.sys / "bus/pci/devices" / address / "power/runtime_status") == "suspended"

    def _module_mark(self) -> int | None:
        """Changes when the kernel module is loaded anew; None where it is not to be seen."""
        try:
            return (self.roots.sys / "module/nvidia").stat().st_ino
        except OSError:
            return None


def _nothing(reason: str) -> Reading:
    return Reading(state={"gpus:nvidia": {"gpus": [], "reason": reason}})


def _sleeping(number: int) -> dict[str, Any]:
    return {
        "index": number,
        "vendor": "NVIDIA",
        "name": "NVIDIA GPU",
        "throttle": None,
        "processes": [],
        "missing": {"all": "the card sleeps and is not woken"},
    }


def _library_is_there() -> bool:
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return False
    return True
