"""The engines that people added, as the console pushes them. An API key comes sealed, as it lies in the database, and is opened
here only: by a key of its purpose, which the gateway has from its environment (aicleaner_site.processes)."""

import asyncio
import json
import logging
import os
from collections.abc import Callable, Coroutine
from typing import Any

from inference.gateway.engines import Engine, Engines
from inference.gateway.pushed import ENGINE_KEYS, ENGINES, Pushed
from inference.gateway.sessions import check_number
from safeguards.addresses import AddressError

log = logging.getLogger("inference.gateway")


class AddedEngines(Pushed):
    def __init__(
        self, valkey_url: str, engines: Engines, ask_now: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        """`ask_now`: how they are, and for their models, when there is a new one."""
        super().__init__(valkey_url, ENGINES)
        self._engines, self._ask_now = engines, ask_now
        self._asking: set[asyncio.Task[None]] = set()
        self._opened: dict[str, str] = {}  # sealed -> key: opening costs more than comparing

    def take(self, state: dict[str, Any]) -> str | None:
        """`{"engines": [fields of Engine, ...]}`, in any order. An address that is not allowed is left out, and said."""
        found, wrong = [], []
        for fields in state["engines"]:
            engine = Engine(**fields, added=True)
            try:
                check_number(engine.url)
                engine.key = self._open(engine.sealed)
            except (AddressError, SealedError) as error:
                wrong.append(f"{engine.name}: {error}")
                continue
            found.append(engine)
        if self._engines.set_added(found):
            task = asyncio.create_task(self._ask_now())
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
        return "; ".join(wrong) or None

    def _open(self, sealed: str) -> str:
        if not sealed:
            return ""
        if sealed not in self._opened:
            self._opened = {**self._opened, sealed: open_sealed(sealed, os.environ.get(ENGINE_KEYS, ""))}
        return self._opened[sealed]


class SealedError(Exception):
    pass


def open_sealed(sealed: str, keys: str) -> str:
    """`keys`: Fernet's, separated by spaces, as safeguards.sealing gives them. Raises SealedError."""
    from cryptography.fernet import Fernet, InvalidToken, MultiFernet

    if not keys:
        raise SealedError("the gateway was started without the key that opens its API key")
    try:
        opened = MultiFernet([Fernet(each) for each in keys.split()]).decrypt(sealed.encode())
        return str(json.loads(opened)["key"])
    except (InvalidToken, ValueError, KeyError) as error:
        raise SealedError(
            "its API key was stored under another secret key of the product: enter it again"
        ) from error
