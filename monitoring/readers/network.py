"""Traffic of each network interface from /proc/net/dev; loopback and containers' inner ends are left out."""

from monitoring.readers.base import ProcFile, Rates, Reader, Reading, Roots, Values, label

LEFT_OUT = (
    *("lo", "veth", "br-", "docker", "virbr"),
    *("cali", "cni", "flannel", "vnet", "fwbr", "fwln", "fwpr"),  # of Kubernetes, libvirt and Proxmox
)


class Network(Reader):
    name = "network"

    def __init__(self, roots: Roots) -> None:
        super().__init__(roots)
        self.dev = ProcFile(roots.proc / "net/dev", 2**20)
        self.rates = Rates()

    def read(self, now: float) -> Reading:
        values: Values = {}
        for line in self.dev.read().decode(errors="replace").split("\n")[2:]:
            name, colon, counters = line.partition(":")
            interface = name.strip()
            if not colon or interface.startswith(LEFT_OUT):
                continue
            fields = counters.split()
            for direction, position in (("receive", 0), ("transmit", 8)):
                series = f"network_{direction}_bytes_per_s{{interface={label(interface)}}}"
                values[series] = self.rates.per_s(series, int(fields[position]), now)
        return Reading(values)

    def close(self) -> None:
        self.dev.close()
