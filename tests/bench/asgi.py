"""A small ASGI application in a process of its own: an engine that costs nothing, or a floor to compare with."""

import asyncio
import subprocess
import sys
from pathlib import Path

import aiohttp

from tests.product import free_ports, wait_for


class Asgi:
    """A small ASGI text under uvicorn."""

    def __init__(self, folder: Path, name: str, text: str, **environment: str) -> None:
        (folder / f"{name}.py").write_text(text)
        self.port = free_ports(1)[0]
        self.url = f"http://127.0.0.1:{self.port}"
        options = ("--port", str(self.port), "--no-access-log", "--log-level", "error", "--http", "httptools")
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "uvicorn",
                f"{name}:app",
                *options,
                "--loop",
                "uvloop",
                "--lifespan",
                "off",
            ],
            cwd=folder,
            env={"PATH": "/usr/bin:/bin", **environment},
        )
        wait_for(lambda: asyncio.run(answers(self.url)), f"{name} answers")


async def answers(url: str, path: str = "/api/version") -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(url + path) as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False
