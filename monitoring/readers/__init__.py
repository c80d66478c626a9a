"""What is read from the machine. A new reader is one file here and one line in READERS."""

from monitoring.readers.amd import Amd
from monitoring.readers.base import Reader, Reading, Roots
from monitoring.readers.cpu import Cpu
from monitoring.readers.disks import Disks
from monitoring.readers.engine import Engine
from monitoring.readers.gateway import Gateway
from monitoring.readers.memory import Memory
from monitoring.readers.network import Network
from monitoring.readers.nvidia import Nvidia
from monitoring.readers.other_gpus import OtherGpus
from monitoring.readers.pressure import Pressure
from monitoring.readers.processes import Processes
from monitoring.readers.temperatures import Temperatures

READERS: tuple[type[Reader], ...] = (
    Cpu,
    Memory,
    Pressure,
    Disks,
    Network,
    Temperatures,
    Processes,
    Nvidia,
    Amd,
    OtherGpus,
    Gateway,
    Engine,
)

__all__ = ["READERS", "Reader", "Reading", "Roots"]
