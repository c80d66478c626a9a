"""Holds one model: a process of its own, so that a crash takes nothing else along.

`python -m inference.engine.runner JSON` loads the model, prints one JSON line (`{"url": ...}` or `{"error": ...}`)
and serves llama.cpp's HTTP API on a random loopback port until its standard input closes."""

import json
import os
import sys
import urllib.request
from typing import Any

import xllamacpp

FLASH_ATTENTION = {
    None: xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_AUTO,
    True: xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_ENABLED,
    False: xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED,
}


def make_params(wanted: dict[str, Any]) -> xllamacpp.CommonParams:
    """`wanted` is what Scheduler._settings makes of a request; num_ctx is that of one slot, None means llama.cpp's default."""
    params = xllamacpp.CommonParams()
    params.model.path = wanted["model"]
    params.n_ctx = wanted["num_ctx"] * wanted["n_parallel"]
    params.n_parallel = wanted["n_parallel"]
    params.kv_unified = False
    params.n_batch = wanted["num_batch"]
    params.n_ubatch = wanted["num_batch"]
    params.cpuparams.n_threads = wanted["threads"]
    params.cpuparams_batch.n_threads = wanted["threads"]
    params.n_gpu_layers = -1 if wanted["num_gpu"] is None else wanted["num_gpu"]
    params.main_gpu = wanted["main_gpu"] or 0
    params.cache_type_k = params.cache_type_v = getattr(
        xllamacpp.ggml_type, f"GGML_TYPE_{wanted['kv_cache_type'].upper()}"
    )
    params.flash_attn_type = FLASH_ATTENTION[wanted["flash_attention"]]
    params.ctx_shift = wanted["shift"]
    params.embedding = wanted["embedding"]
    params.use_jinja = True
    params.endpoint_slots = True
    params.verbosity = 1
    params.port = 0
    params.hostnames = ["127.0.0.1"]
    # The fit search loads the model a second time; what is asked for is what is loaded.
    params.fit_params = False
    if not wanted["use_mmap"]:
        params.load_mode = xllamacpp.llama_load_mode.LLAMA_LOAD_MODE_NONE
    return params


def main() -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what llama.cpp prints must not get between our lines
    try:
        server = xllamacpp.Server(make_params(json.loads(sys.argv[1])))
        # Deleting a server that never answered deadlocks: the first answer comes before anybody is told of it.
        with urllib.request.urlopen(f"{server.listening_address}/health", timeout=60) as answer:  # noqa: S310 - our own
            answer.read()
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent has to hear of it
        print(json.dumps({"error": str(error)}), file=out, flush=True)
        sys.exit(1)
    print(json.dumps({"url": server.listening_address}), file=out, flush=True)
    sys.stdin.buffer.read()
    os._exit(0)  # the kernel frees it all at once; a destructor could wait for a running generation


if __name__ == "__main__":
    main()
