"""`python -m inference.gateway`: serve the gateway with uvicorn."""

import argparse
import ipaddress
import logging
import os
import secrets
from pathlib import Path

import uvicorn

from inference.gateway.access import ALWAYS, NEVER, REMOTE, AccessRules
from inference.gateway.app import Gateway
from inference.gateway.cache import Cache
from inference.gateway.callers import Network, Proxies, is_loopback
from inference.gateway.engines import Engine
from inference.gateway.eviction import Rules
from inference.gateway.protocol import BoundedProtocol
from inference.gateway.slots import QUIET_S, Slots
from inference.gateway.tokens import gateway_secret

SECRET_VARIABLE = "AICLEANER_SECRET_KEY"  # noqa: S105 - its name
log = logging.getLogger("inference.gateway")


def read_engine(text: str) -> Engine:
    """`ollama=http://127.0.0.1:11434`"""
    kind, _, url = text.partition("=")
    if kind not in {"ollama", "embedded"} or not url.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"{text!r} is not KIND=URL with the kind ollama or embedded")
    return Engine(kind, url.rstrip("/"))


def read_network(text: str) -> Network:
    """`10.0.0.7` or `10.0.0.0/24`"""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no address or network: {error}") from error


def read_secret(file: Path | None) -> bytes:
    """Of the environment or the file. Without either no key can be recognised: all are refused."""
    text = os.environ.get(SECRET_VARIABLE, "")
    try:
        text = text or (file.read_text().strip() if file is not None else "")
    except OSError as error:
        log.warning("%s can't be read: %s", file, error.strerror)
    if not text:
        log.warning("no secret key (%s or --secret-file): every API key is refused", SECRET_VARIABLE)
        text = secrets.token_hex(32)
    return gateway_secret(text)


def main() -> None:
    parser = argparse.ArgumentParser(prog="gateway", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=11435)
    parser.add_argument(
        "--valkey",
        default=os.environ.get("REDIS_URL", "").strip(),
        metavar="URL",
        help="redis:// or unix:// address; default: REDIS_URL, where a password is not seen by other users",
    )
    parser.add_argument("--engine", type=read_engine, action="append", required=True, metavar="KIND=URL")
    parser.add_argument("--max-body", type=int, default=64 * 2**20, metavar="BYTES")
    parser.add_argument(
        "--silent",
        type=float,
        default=3600,
        metavar="SECONDS",
        help="an engine that sends nothing for so long hangs: 504",
    )
    parser.add_argument(
        "--head",
        type=float,
        default=BoundedProtocol.head_s,
        metavar="SECONDS",
        help="a client has to send the head of a request within so long: 408",
    )
    parser.add_argument(
        "--body-idle",
        type=float,
        default=BoundedProtocol.body_idle_s,
        metavar="SECONDS",
        help="longest pause between two parts of a request body: 408",
    )
    parser.add_argument(
        "--max-queue", type=int, default=512, metavar="N", help="requests that wait for their turn"
    )
    parser.add_argument("--no-cache", action="store_true", help="keep no answers")
    parser.add_argument(
        "--cache-ttl", type=float, default=300, metavar="SECONDS", help="where no profile says it"
    )
    parser.add_argument("--cache-entries", type=int, default=100, metavar="N")
    parser.add_argument("--no-cache-compression", action="store_true")
    parser.add_argument(
        "--keep-prompts", type=int, default=0, metavar="BYTES", help="of each prompt, in its record; 0: none"
    )
    parser.add_argument("--max-loaded", type=int, metavar="N", help="models that may be loaded at a time")
    parser.add_argument("--unload-after", type=float, metavar="SECONDS", help="of being idle")
    parser.add_argument(
        "--relieve", action="store_true", help="unload idle models while the machine is short of memory"
    )
    parser.add_argument(
        "--slot-quiet",
        type=float,
        default=QUIET_S,
        metavar="SECONDS",
        help="an Ollama that is silent and at rest for so long after a client left has a stuck slot: its model is unloaded",
    )
    parser.add_argument(
        "--require-key",
        choices=(REMOTE, ALWAYS, NEVER),
        default=REMOTE,
        help="of whom: other machines, everybody, nobody",
    )
    parser.add_argument(
        "--secret-file", type=Path, metavar="FILE", help=f"where {SECRET_VARIABLE} is not set"
    )
    parser.add_argument("--keys-file", type=Path, metavar="FILE", help="keeps hashes of the API keys")
    parser.add_argument(
        "--trusted-proxy",
        type=read_network,
        action="append",
        default=[],
        metavar="ADDRESS",
        help="whose X-Forwarded-For is believed",
    )
    arguments = parser.parse_args()
    if not arguments.valkey:
        parser.error("give --valkey, or set REDIS_URL")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    local_only = is_loopback(arguments.host)
    if not local_only and arguments.require_key == NEVER:
        log.warning("open to everybody who reaches %s: no API key is required", arguments.host)
    gateway = Gateway(
        engines=arguments.engine,
        valkey_url=arguments.valkey,
        max_body=arguments.max_body,
        local_only=local_only,
        silent_s=arguments.silent,
        cache=Cache(
            enabled=not arguments.no_cache,
            ttl_s=arguments.cache_ttl,
            max_entries=arguments.cache_entries,
            compress=not arguments.no_cache_compression,
        ),
        max_queue=arguments.max_queue,
        keep_prompt=arguments.keep_prompts,
        slots=Slots(arguments.slot_quiet),
        rules=Rules(arguments.max_loaded, arguments.unload_after, arguments.relieve),
        access=AccessRules(
            read_secret(arguments.secret_file),
            arguments.require_key,
            arguments.keys_file,
            Proxies(tuple(arguments.trusted_proxy)),
        ),
    )
    BoundedProtocol.head_s, BoundedProtocol.body_idle_s = arguments.head, arguments.body_idle
    uvicorn.run(
        gateway,
        host=arguments.host,
        port=arguments.port,
        loop="uvloop",
        http=BoundedProtocol,
        ws="none",
        access_log=False,
        log_level="warning",
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=3,
    )


if __name__ == "__main__":
    main()
