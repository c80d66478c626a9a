"""What machine this is, its class, and the profile that suits it. Pure over readings; tuning/selectors.py takes them."""

from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True)
class Gpu:
    name: str
    memory_bytes: int | None


@dataclass(frozen=True)
class Hardware:
    """`cores` counts physical ones; None is unknown. `gpus` None: nobody could look, with the reason in `gpu_note`."""

    cpu: str | None
    threads: int
    cores: int
    memory_bytes: int
    gpus: tuple[Gpu, ...] | None = ()
    gpu_note: str = ""

    @property
    def gpu_memory_bytes(self) -> int | None:
        """Of all GPUs; None without one, or where a card doesn't tell."""
        sizes = [gpu.memory_bytes for gpu in self.gpus or ()]
        return sum(size for size in sizes if size) or None


@dataclass(frozen=True)
class Verdict:
    """`grade`: low_end, medium_end, high_end, server_grade."""

    grade: str
    label: str
    reason: str

    @property
    def profile(self) -> str:
        return f"hardware_{self.grade}"


LABELS = {"low_end": "low", "medium_end": "medium", "high_end": "high", "server_grade": "server"}
# What a class asks for: GPU memory in GiB alone, or threads and GiB of memory together (models then run on the CPU).
# A 7 B model in INT8 takes about 8 GB, a 3 B one half; a CPU runs a model at the pace of its memory, so cores alone
# make no high end. Rows from the top, the first that fits counts.
GPU_GIB = (("server_grade", 40.0), ("high_end", 11.0), ("medium_end", 5.5))
CPU = (("server_grade", 32, 120.0), ("high_end", 16, 30.0), ("medium_end", 4, 7.5))


def judge(hardware: Hardware) -> Verdict:
    """The class that the GPU or the CPU reaches, whichever is higher, with the reason in a sentence."""
    gpu_gib = (hardware.gpu_memory_bytes or 0) / GIB
    memory_gib = hardware.memory_bytes / GIB
    order = [grade for grade, _ in GPU_GIB]
    by_gpu = next((grade for grade, needed in GPU_GIB if gpu_gib >= needed), None)
    by_cpu = next(
        (grade for grade, threads, gib in CPU if hardware.threads >= threads and memory_gib >= gib), None
    )
    have = f"{hardware.threads} CPU threads and {memory_gib:.0f} GiB of memory"
    if by_gpu is not None and (by_cpu is None or order.index(by_gpu) <= order.index(by_cpu)):
        n = len(hardware.gpus or ())
        cards = f"{n} GPUs with {gpu_gib:.0f} GiB together" if n > 1 else f"a GPU with {gpu_gib:.0f} GiB"
        return _verdict(by_gpu, f"{cards}, beside {have}.")
    if by_cpu is not None:
        return _verdict(by_cpu, f"{have}; {_gpu_words(hardware, gpu_gib)}.")
    _, threads, gib = CPU[-1]
    short = f"medium asks for {threads} threads and {gib:g} GiB, or a GPU with {GPU_GIB[-1][1]:g} GiB"
    return _verdict("low_end", f"{have}; {_gpu_words(hardware, gpu_gib)}; {short}.")


def _verdict(grade: str, reason: str) -> Verdict:
    return Verdict(grade, LABELS[grade], reason)


def _gpu_words(hardware: Hardware, gpu_gib: float) -> str:
    if hardware.gpus is None:
        return f"GPUs unknown: {hardware.gpu_note}" if hardware.gpu_note else "GPUs unknown"
    if not hardware.gpus:
        return "no GPU found"
    return f"a GPU with {gpu_gib:.0f} GiB" if gpu_gib else "a GPU that doesn't tell its memory"
