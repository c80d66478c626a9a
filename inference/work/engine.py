"""The engine that has the models, spoken to over HTTP; every failure becomes a sentence.

Not by the `ollama` package: its answers leave out the bytes of a token, without which half characters look alike."""

import json
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from inference.names import full_name, taken
from inference.quality.divergence import Top
from inference.work.messages import WorkError

ANSWER_WITHIN_S, MAKE_WITHIN_S = 600.0, 6 * 3600.0
TOP = 20  # the most that Ollama tells
FROM = re.compile(r"^FROM (/.+)$", re.MULTILINE)
UNLOADED_WITHIN_S = 60.0


@dataclass(frozen=True)
class Tag:
    """A model as the engine lists it."""

    name: str
    digest: str
    size_bytes: int
    quantization: str


@dataclass(frozen=True)
class Load:
    """`ms`: as the engine counts it; bytes of the loaded model, and of them in the GPU's memory."""

    ms: float
    size_bytes: int
    vram_bytes: int


class EngineClient:
    """`url`: of an Ollama or of the embedded engine. All methods raise WorkError."""

    def __init__(self, url: str, *, num_ctx: int, answer_within_s: float = ANSWER_WITHIN_S) -> None:
        self.num_ctx = num_ctx
        timeout = httpx.Timeout(answer_within_s, connect=min(answer_within_s, 10))
        self.http = httpx.Client(base_url=url, timeout=timeout, trust_env=False)

    def close(self) -> None:
        self.http.close()

    def tags(self) -> dict[str, Tag]:
        found = self._ask("list its models", "GET", "/api/tags").get("models") or []
        return {
            each["name"]: Tag(
                each["name"],
                str(each.get("digest") or ""),  # older servers leave some of it out
                int(each.get("size") or 0),
                str((each.get("details") or {}).get("quantization_level") or ""),
            )
            for each in found
        }

    def tag(self, name: str) -> Tag:
        found = self.tags()
        if (whole := full_name(name)) not in found:
            raise WorkError(f"The engine has no model {whole}.")
        return found[whole]

    def refuse_taken(self, name: str) -> None:
        if there := taken(name, self.tags()):
            raise WorkError(f"There is a model {there} already. Choose another name, or delete it first.")

    def show(self, name: str) -> dict[str, Any]:
        return self._ask(f"show {name}", "POST", "/api/show", {"model": name})

    def file_of(self, name: str) -> Path | None:
        """The GGUF file of the model where it lies on this machine."""
        found = FROM.findall(self.show(name).get("modelfile") or "")
        path = Path(found[0]) if found else None
        return path if path is not None and path.is_file() else None

    def create(self, name: str, **what: Any) -> Iterator[dict[str, Any]]:
        """Progress lines of making model `name`. An error that comes with status 200 is one here too."""
        body = {"model": name, "stream": True, **what}
        with (
            _sentences(f"make {name}"),
            self.http.stream("POST", "/api/create", json=body, timeout=MAKE_WITHIN_S) as answer,
        ):
            if answer.status_code != 200:
                answer.read()
            answer.raise_for_status()
            for line in answer.iter_lines():
                found = json.loads(line) if line.strip() else {}
                if "error" in found:
                    raise WorkError(f"The engine could not make {name}: {found['error']}")
                yield found

    def upload(self, path: Path) -> str:
        """Digest under which the engine has the file now."""
        with path.open("rb") as file:
            digest = f"sha256:{file_digest(file, 'sha256').hexdigest()}"
            file.seek(0)
            self.send_blob(digest, file)
        return digest

    def send_blob(self, digest: str, content: Iterable[bytes]) -> None:
        """The engine compares what comes with the digest."""
        with _sentences("take the file"):
            answer = self.http.post(f"/api/blobs/{digest}", content=content, timeout=MAKE_WITHIN_S)
            answer.raise_for_status()

    def delete(self, name: str) -> None:
        self._ask(f"delete {name}", "DELETE", "/api/delete", {"model": name})

    def unload(self, name: str) -> None:
        """Until it is gone from the list of loaded models."""
        self._ask(f"unload {name}", "POST", "/api/generate", {"model": name, "keep_alive": 0})
        end = time.monotonic() + UNLOADED_WITHIN_S
        while self._loaded(name) is not None:
            if time.monotonic() > end:
                raise WorkError(f"{name} stays loaded: someone else is using it.")
            time.sleep(0.05)

    def load(self, name: str) -> Load:
        answer = self.generate(name, "a", num_predict=1)
        found = self._loaded(name) or {}
        return Load(
            (answer.get("load_duration") or 0) / 1e6,
            int(found.get("size") or 0),
            int(found.get("size_vram") or 0),
        )

    def _loaded(self, name: str) -> dict[str, Any] | None:
        found = self._ask("list what is loaded", "GET", "/api/ps").get("models") or []
        return next((each for each in found if each["name"] == full_name(name)), None)

    def generate(self, name: str, prompt: str, *, num_predict: int, **more: Any) -> dict[str, Any]:
        """Greedy, from the prompt as it is, without a template."""
        body = {
            "model": name,
            "prompt": prompt,
            "raw": True,
            "stream": False,
            "options": self._options(num_predict),
        }
        return self._ask(f"generate with {name}", "POST", "/api/generate", {**body, **more})

    def chat(self, name: str, prompt: str, *, num_predict: int) -> str:
        """The greedy answer to one message, by the model's own template."""
        messages = [{"role": "user", "content": prompt}]
        body = {"model": name, "messages": messages, "stream": False, "options": self._options(num_predict)}
        answer = self._ask(f"chat with {name}", "POST", "/api/chat", body)
        return str((answer.get("message") or {}).get("content") or "")

    def continuation(self, name: str, prompt: str, *, num_predict: int) -> list[tuple[bytes, Top]]:
        """Tokens of the greedy continuation, each with the most likely ones at its place."""
        answer = self.generate(name, prompt, num_predict=num_predict, logprobs=True, top_logprobs=TOP)
        if "logprobs" not in answer and answer.get("eval_count"):
            raise WorkError("The engine tells no probabilities (Ollama does since 0.12.11).")
        return [(_bytes(each), _top(each.get("top_logprobs") or [])) for each in answer.get("logprobs") or ()]

    def _options(self, num_predict: int) -> dict[str, Any]:
        return {"num_ctx": self.num_ctx, "num_predict": num_predict, "temperature": 0, "seed": 0}

    def _ask(self, doing: str, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        with _sentences(doing):
            answer = self.http.request(method, path, json=body)
            answer.raise_for_status()
            return dict(answer.json()) if answer.content else {}


def _bytes(token: dict[str, Any]) -> bytes:
    """A token's bytes where the engine tells them; its text may hold a replacement character instead."""
    return bytes(token["bytes"]) if token.get("bytes") else str(token["token"]).encode()


def _top(tokens: list[dict[str, Any]]) -> Top:
    """Several special tokens have the same text, none: they count as one, with all their probability."""
    found: dict[bytes, float] = {}
    for each in tokens:
        name, logprob = _bytes(each), float(each["logprob"])
        found[name] = logprob if name not in found else float(np.logaddexp(found[name], logprob))
    return found


@contextmanager
def _sentences(doing: str) -> Iterator[None]:
    try:
        yield
    except httpx.HTTPStatusError as error:
        try:
            said = error.response.json()["error"]
        except (ValueError, KeyError, TypeError):
            said = error.response.text[:200]
        raise WorkError(
            f"The engine could not {doing}: {said} (HTTP {error.response.status_code})"
        ) from error
    except httpx.ConnectError as error:
        raise WorkError("The engine does not answer.") from error
    except httpx.TimeoutException as error:
        raise WorkError(f"The engine did not {doing} in time.") from error
    except httpx.HTTPError as error:
        raise WorkError(
            f"The engine went away while asked to {doing}: {error or type(error).__name__}"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise WorkError(f"The engine's answer, when asked to {doing}, makes no sense: {error}") from error
