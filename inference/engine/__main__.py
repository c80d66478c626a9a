"""`python -m inference.engine`: serve the models of a folder."""

import argparse
import asyncio
import fcntl
import logging
from pathlib import Path

from aiohttp import web

from inference.engine.app import make_app
from inference.engine.requests import FOREVER, go_duration, parse_name
from inference.engine.scheduler import KV_CACHE_TYPES, Scheduler
from inference.engine.store import ModelStore
from inference.origins import Origins


def seed(store: ModelStore, wanted: str) -> None:
    """`NAME=PATH`: offer the file as a model, unless the name is taken already by the same file."""
    text, _, path = wanted.partition("=")
    name = parse_name(text)
    if name is None:
        raise SystemExit(f"--seed-model {wanted}: {text!r} is no valid model name")
    if not Path(path).is_file():
        logging.warning("the sample model %s is not there; nothing is offered as %s", path, name)
        return
    blob = store.add_file(Path(path))
    known = store.find(text)
    if known is None or known.path != blob:
        store.save(name, blob, {"parameters": {"temperature": 0.0, "repeat_penalty": 1.0}})


def main() -> None:
    parser = argparse.ArgumentParser(prog="engine", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=11436)
    parser.add_argument("--models", type=Path, default=Path("var/models"), help="folder of the models")
    parser.add_argument("--max-loaded", type=int, default=2, help="models loaded at a time")
    parser.add_argument("--max-queue", type=int, default=512, help="requests that may wait for a load")
    parser.add_argument(
        "--num-parallel", type=int, default=1, help="requests that one model answers at a time"
    )
    parser.add_argument(
        "--keep-alive", default="5m", help="idle time before a model is unloaded, e.g. 30m; -1s: never"
    )
    parser.add_argument("--context-length", type=int, default=4096, help="for requests that name no num_ctx")
    parser.add_argument("--kv-cache-type", choices=KV_CACHE_TYPES, default="f16")
    parser.add_argument("--flash-attention", choices=("auto", "on", "off"), default="auto")
    parser.add_argument("--seed-model", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument(
        "--origin",
        action="append",
        default=[],
        help="of pages elsewhere that may ask, e.g. https://*.example.com",
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    keep_alive = go_duration(arguments.keep_alive)
    store = ModelStore(arguments.models)
    lock = (arguments.models / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit(f"another engine serves {arguments.models}: give --models another folder") from None
    store.prune()
    for each in arguments.seed_model:
        seed(store, each)

    async def application() -> web.Application:
        return make_app(
            store,
            Scheduler(
                max_loaded=max(arguments.max_loaded, 1),
                max_queue=arguments.max_queue,
                n_parallel=max(arguments.num_parallel, 1),
                keep_alive_s=FOREVER if keep_alive < 0 else keep_alive,
                context_length=max(arguments.context_length, 4),
                kv_cache_type=arguments.kv_cache_type,
                flash_attention={"auto": None, "on": True, "off": False}[arguments.flash_attention],
            ),
            Origins(tuple(arguments.origin)),
        )

    loop = asyncio.new_event_loop()
    web.run_app(
        application(),
        host=arguments.host,
        port=arguments.port,
        print=None,
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=1,
        loop=loop,
    )


if __name__ == "__main__":
    main()
