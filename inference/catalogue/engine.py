"""What the pages ask of an engine and tell it; each failure is a sentence."""

import functools
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

from inference.api_keys.internal import gateway_headers
from inference.engines.selectors import EngineAddress
from inference.errors import EngineProblemError
from inference.names import full_name

ASK_WITHIN_S = 4.0  # a page waits for it
ACT_WITHIN_S = 30.0
NO_REGISTRY = (
    "The embedded engine has no registry behind it: it can't pull. Give it a GGUF file by its create API."
)


@functools.cache
def _tls() -> ssl.SSLContext:
    """All certificates are read for one: 27 CPU-ms of each client's 28, and memory that its thread does not give back."""
    return httpx.create_ssl_context(trust_env=False)


@dataclass
class EngineApi:
    """Use by `with`. All methods raise EngineProblemError."""

    engine: EngineAddress
    within_s: float = ASK_WITHIN_S
    url: str = ""  # another way to it: through the gateway, which is told which engine is meant
    http: httpx.Client = field(init=False)

    def __enter__(self) -> Self:
        timeout = httpx.Timeout(self.within_s, connect=min(self.within_s, 3.0))
        headers = {"x-aicleaner-client": "console"}
        if self.url:
            headers |= {"x-aicleaner-engine": self.engine.name, **gateway_headers()}
        base = self.url or self.engine.url
        self.http = httpx.Client(
            base_url=base, timeout=timeout, trust_env=False, headers=headers, verify=_tls()
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def version(self) -> str:
        return str(self._ask("tell its version", "GET", "/api/version").get("version") or "")

    def tags(self) -> list[dict[str, Any]]:
        return self._models("list its models", "/api/tags")

    def loaded(self) -> list[dict[str, Any]]:
        """Nothing of an Ollama before 0.1.33, which does not tell."""
        return self._models("list what is loaded", "/api/ps", or_nothing=True)

    def find_loaded(self, name: str) -> dict[str, Any] | None:
        return next((each for each in self.loaded() if full_name(str(each.get("name"))) == name), None)

    def show(self, name: str) -> dict[str, Any]:
        return self._ask(f"show {name}", "POST", "/api/show", {"model": name})

    def copy(self, name: str, target: str) -> None:
        self._ask(f"copy {name}", "POST", "/api/copy", {"source": name, "destination": target})

    def delete(self, name: str) -> None:
        self._ask(f"delete {name}", "DELETE", "/api/delete", {"model": name})

    def unload(self, name: str) -> None:
        """When its last request ends; at once when it is idle."""
        self._ask(f"unload {name}", "POST", "/api/generate", {"model": name, "keep_alive": 0})

    def load(self, name: str, **more: Any) -> None:
        """`more`: options, keep_alive. A model that only embeds takes no prompt, so it gets a letter to embed."""
        capabilities = self.show(name).get("capabilities") or ["completion"]
        if "completion" in capabilities:
            self._ask(f"load {name}", "POST", "/api/generate", {"model": name, **more})
        else:
            self._ask(f"load {name}", "POST", "/api/embed", {"model": name, "input": "a", **more})

    def _models(self, doing: str, path: str, *, or_nothing: bool = False) -> list[dict[str, Any]]:
        found = self._ask(doing, "GET", path, or_nothing=or_nothing).get("models") or []
        if not isinstance(found, list) or not all(
            isinstance(each, dict) and each.get("name") for each in found
        ):
            raise EngineProblemError(
                f"{self.engine.label} at {self.engine.url} answers, but not as an engine does."
            )
        return found

    def _ask(
        self,
        doing: str,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        or_nothing: bool = False,
    ) -> dict[str, Any]:
        """`or_nothing`: an engine without such an endpoint answers nothing."""
        with self._sentences(doing):
            answer = self.http.request(method, path, json=body)
            if or_nothing and answer.status_code == 404:
                return {}
            answer.raise_for_status()
            found = answer.json() if answer.content else {}
            if not isinstance(found, dict):
                raise TypeError("no object")
            return found

    @contextmanager
    def _sentences(self, doing: str) -> Iterator[None]:
        who = f"{self.engine.label} at {self.engine.url}"
        try:
            yield
        except httpx.HTTPStatusError as error:
            raise EngineProblemError(
                f"{self.engine.label} did not {doing}: {said(error.response.text)} (HTTP {error.response.status_code})."
            ) from error
        except httpx.ConnectError as error:
            raise EngineProblemError(f"{who} does not answer: {error}.") from error
        except httpx.TimeoutException as error:
            raise EngineProblemError(f"{who} did not {doing} within {self.within_s:g} s.") from error
        except httpx.HTTPError as error:
            words = str(error) or type(error).__name__
            raise EngineProblemError(f"{who} went away while asked to {doing}: {words}.") from error
        except (ValueError, TypeError) as error:
            raise EngineProblemError(f"{who} answers, but not as an engine does: {error}.") from error


def said(body: str) -> str:
    """The error in an engine's answer, or its beginning."""
    try:
        found = httpx.Response(200, text=body).json()["error"]
    except (ValueError, KeyError, TypeError):
        return body[:200].strip() or "nothing"
    return str(found["message"] if isinstance(found, dict) and "message" in found else found)[:400].rstrip(
        "."
    )
