"""The twelve shipped profiles, in one table. A person's edits of them are kept; 'restore shipped values' comes back here."""

from dataclasses import dataclass, field

from tuning.fields import Values


@dataclass(frozen=True)
class Predefined:
    name: str
    category: str
    description: str
    values: Values
    target_hardware: str = "any"
    target_use: str = "any"
    tags: tuple[str, ...] = field(default_factory=tuple)


def _values(
    quantization: str,
    memory_mb: int,
    cpu_percent: int,
    context: int,
    batch: int,
    num_predict: int,
    ttl_min: int | None,
    **others: object,
) -> Values:
    """The columns of the table; a TTL of None switches the cache off."""
    cache: Values = {"cache": False} if ttl_min is None else {"cache": True, "cache_ttl_min": ttl_min}
    return {
        "quantization": quantization,
        "memory_mb": memory_mb,
        "cpu_percent": cpu_percent,
        "context": context,
        "batch": batch,
        "num_predict": num_predict,
        **cache,
        **others,
    }


def _alerts(memory: int, cpu: int, seconds: int) -> Values:
    return {"alert_memory_percent": memory, "alert_cpu_percent": cpu, "alert_seconds": seconds}


PREDEFINED: tuple[Predefined, ...] = (
    Predefined(
        *("hardware_low_end", "hardware", "Small machines: short context, one request at a time."),
        _values("int4", 2048, 70, 1024, 1, 256, 10, compression="gzip", **_alerts(85, 80, 60)),
        target_hardware="low_end",
        tags=("small",),
    ),
    Predefined(
        *("hardware_medium_end", "hardware", "A desktop, with or without a middling GPU."),
        _values("int8", 4096, 80, 2048, 2, 512, 5, gpu=True),
        target_hardware="medium_end",
        tags=("gpu",),
    ),
    Predefined(
        *("hardware_high_end", "hardware", "A strong GPU: long context, four requests at a time."),
        _values("fp16", 8192, 90, 4096, 4, 1024, 2, gpu=True, gpu_memory_percent=90, **_alerts(95, 95, 15)),
        target_hardware="high_end",
        tags=("gpu",),
    ),
    Predefined(
        *("hardware_server_grade", "hardware", "A server with several GPUs: eight requests at a time."),
        _values("fp16", 32768, 95, 8192, 8, 2048, 2, gpu=True),
        target_hardware="server_grade",
        tags=("gpu", "several-gpus"),
    ),
    Predefined(
        *(
            "use_case_real_time",
            "use_case",
            "The first word at once: short answers, nearly no chance, quick alerts.",
        ),
        _values("int8", 4096, 80, 1024, 1, 256, 1, temperature=0.05, alert_seconds=5),
        target_use="real_time",
        tags=("latency",),
    ),
    Predefined(
        *(
            "use_case_batch",
            "use_case",
            "Many requests that nobody waits for: eight at a time, nothing kept.",
        ),
        _values("dynamic", 4096, 80, 2048, 8, 512, None, alert_seconds=120),
        target_use="batch",
        tags=("throughput",),
    ),
    Predefined(
        *("use_case_interactive", "use_case", "People at the keyboard: two requests at a time."),
        _values("dynamic", 4096, 80, 2048, 2, 512, 5),
        target_use="interactive",
    ),
    Predefined(
        *("use_case_background", "use_case", "Beside other work: the machine comes first."),
        _values("dynamic", 2048, 60, 2048, 1, 512, 15),
        target_use="background",
        tags=("resources",),
    ),
    Predefined(
        *(
            "use_case_demo",
            "use_case",
            "In front of an audience: dependable, the same question answered at once.",
        ),
        _values("int8", 4096, 80, 2048, 1, 256, 60),
        target_use="demo",
        tags=("reliability",),
    ),
    Predefined(
        *("performance_maximum", "performance", "All that the machine has."),
        _values("none", 16384, 95, 4096, 8, 1024, 1, gpu=True),
        tags=("gpu", "throughput"),
    ),
    Predefined(
        *("performance_balanced", "performance", "A fair share of everything."),
        _values("dynamic", 4096, 80, 2048, 2, 512, 5, gpu=True),
        tags=("gpu",),
    ),
    Predefined(
        *(
            "resource_efficient",
            "resource",
            "As little as possible: shortest context, tight limits, early alerts.",
        ),
        _values("int4", 1024, 60, 512, 1, 128, 15, compression="gzip", **_alerts(80, 70, 90)),
        tags=("resources",),
    ),
)
BY_NAME = {each.name: each for each in PREDEFINED}
