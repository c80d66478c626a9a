"""Temperatures from hwmon (thermal zones where there is none). NVMe drives are asked once a minute: asking wakes them."""

from pathlib import Path

from monitoring.readers.base import Reader, Reading, Roots, Values, label, read_number, read_text

NVME_EVERY_S = 60.0
RESCAN_EVERY_S = 300.0


class Temperatures(Reader):
    name = "temperatures"
    every_s = 5.0

    def __init__(self, roots: Roots) -> None:
        super().__init__(roots)
        self._sensors: list[tuple[str, Path, bool]] = []
        self._scanned = -RESCAN_EVERY_S
        self._nvme: dict[str, tuple[float, float | None]] = {}

    def read(self, now: float) -> Reading:
        if now - self._scanned >= RESCAN_EVERY_S:
            self._sensors, self._scanned = self._scan(), now
        values: Values = {}
        for name, path, is_nvme in self._sensors:
            series = f"temperature_celsius{{sensor={name}}}"
            if is_nvme:
                asked, value = self._nvme.get(name, (-NVME_EVERY_S, None))
                if now - asked >= NVME_EVERY_S:
                    value = read_number(path, 1e-3)
                    self._nvme[name] = (now, value)
                values[series] = value
            else:
                values[series] = read_number(path, 1e-3)
        return Reading(values)

    def _scan(self) -> list[tuple[str, Path, bool]]:
        found: dict[str, tuple[Path, bool]] = {}
        for path in sorted((self.roots.sys / "class/hwmon").glob("hwmon*/temp*_input")):
            chip = read_text(path.with_name("name")) or path.parent.name
            if chip in {"amdgpu", "nouveau"}:  # a GPU: its own reader has it
                continue
            mark = read_text(path.with_name(path.name.replace("_input", "_label")))
            name = label(f"{chip} {mark}".strip())
            while name in found:
                name += "'"
            found[name] = (path, chip == "nvme")
        if not found:
            for zone in sorted((self.roots.sys / "class/thermal").glob("thermal_zone*/temp")):
                name = label(read_text(zone.with_name("type")) or zone.parent.name)
                found.setdefault(name, (zone, False))
        return [(name, path, is_nvme) for name, (path, is_nvme) in found.items()]
