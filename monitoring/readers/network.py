"""Traffic of each network interface from /proc/net/dev, and of the machine; loopback and containers' inner ends are left out."""

from pathlib import Path

from monitoring.readers.base import ProcFile, Rates, Reader, Reading, Roots, Values, label, read_text

LEFT_OUT = (
    *("lo", "veth", "br-", "docker", "virbr"),
    *("cali", "cni", "flannel", "vnet", "fwbr", "fwln", "fwpr"),  # of Kubernetes, libvirt and Proxmox
)
DIRECTIONS = (("receive", 0), ("transmit", 8))
LOOK_EVERY_S = 60.0
ETHERNET = "1"  # ARPHRD_ETHER; tunnels have other numbers


class Network(Reader):
    name = "network"

    def __init__(self, roots: Roots) -> None:
        super().__init__(roots)
        self.dev = ProcFile(roots.proc / "net/dev", 2**20)
        self.rates = Rates()
        self._names: tuple[str, ...] = ()
        self._outer = frozenset[str]()
        self._looked_at = -LOOK_EVERY_S

    def read(self, now: float) -> Reading:
        counters: dict[str, list[str]] = {}
        for line in self.dev.read().decode(errors="replace").split("\n")[2:]:
            name, colon, fields = line.partition(":")
            if colon and not name.strip().startswith(LEFT_OUT):
                counters[name.strip()] = fields.split()
        self._look(tuple(counters), now)
        values: Values = {}
        for direction, position in DIRECTIONS:
            outer: list[float | None] = []
            for name, fields_of in counters.items():
                series = f"network_{direction}_bytes_per_s{{interface={label(name)}}}"
                values[series] = self.rates.per_s(series, int(fields_of[position]), now)
                if name in self._outer:
                    outer.append(values[series])
            known = [each for each in outer if each is not None]
            whole = sum(known) if known and len(known) == len(outer) else None
            values[f"network_total_{direction}_bytes_per_s"] = whole
        return Reading(values)

    def close(self) -> None:
        self.dev.close()

    def _look(self, names: tuple[str, ...], now: float) -> None:
        if names != self._names or now - self._looked_at >= LOOK_EVERY_S:
            self._names, self._looked_at = names, now
            self._outer = frozenset(self._outer_of(names))

    def _outer_of(self, names: tuple[str, ...]) -> list[str]:
        """Those that reach the outside themselves: what a bond, bridge, VLAN or VPN carries goes through one of them as
        well, and must not count twice. Interfaces with a device; where none has one, as in a container, whatever lies
        on no other and is no tunnel."""
        folder = self.roots.sys / "class/net"
        return [name for name in names if (folder / name / "device").exists()] or [
            name for name in names if _lies_on_none(folder / name)
        ]


def _lies_on_none(folder: Path) -> bool:
    try:
        below = any(each.name.startswith("lower_") for each in folder.iterdir())
    except OSError:
        return True
    return not below and read_text(folder / "type") in (ETHERNET, "")
