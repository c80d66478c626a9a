"""What a GGUF file says of itself."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import gguf

from inference.gguf_tools.container import NotGgufError, Tensor, read_header


@dataclass(frozen=True)
class Metadata:
    """Keys (of arrays, which are long, only the name) and tensors of one GGUF file."""

    keys: dict[str, Any]
    tensors: tuple[Tensor, ...]

    @property
    def n_parameters(self) -> int:
        return sum(each.n_elements for each in self.tensors)

    @property
    def architecture(self) -> str:
        return str(self.keys.get("general.architecture", "unknown"))

    def of_architecture(self, key: str) -> Any:
        """`context_length` -> the value of `llama.context_length`; None where the file has none."""
        return self.keys.get(f"{self.architecture}.{key}")

    @property
    def is_embedding(self) -> bool:
        return self.of_architecture("pooling_type") is not None

    @property
    def chat_template(self) -> str:
        return str(self.keys.get("tokenizer.chat_template", ""))

    @property
    def parameter_size(self) -> str:
        """As Ollama prints it: 907K, 2.87M, 7.2B."""
        n = self.n_parameters
        if n >= 10**9:
            return f"{n / 10**9:.1f}B"
        if n >= 10**6:
            # Ollama keeps three digits below ten million
            return f"{n / 10**6:.2f}M" if n < 10**8 else f"{n / 10**6:.0f}M"
        return f"{n / 10**3:.0f}K" if n >= 1000 else str(n)

    @property
    def quantization(self) -> str:
        number = self.keys.get("general.file_type")
        if number is None:
            return "unknown"
        try:
            name = gguf.LlamaFileType(number).name
        except ValueError:
            return "unknown"
        return str(name.removeprefix("MOSTLY_").removeprefix("ALL_"))

    @property
    def capabilities(self) -> list[str]:
        if self.is_embedding:
            return ["embedding"]
        template = self.chat_template
        found = ["completion"]
        if "tools" in template:
            found.append("tools")
        if "<think>" in template or "enable_thinking" in template:
            found.append("thinking")
        return found


@lru_cache(maxsize=256)
def _read(path: Path, _size: int, _changed_ns: int) -> Metadata:
    header = read_header(path)
    return Metadata(header.keys, header.tensors)


def read_metadata(path: Path) -> Metadata:
    """Read once per version of the file. Raises NotGgufError."""
    try:
        state = path.stat()
    except OSError as error:
        raise NotGgufError(f"{path.name} can't be read: {error.strerror}") from error
    return _read(path, state.st_size, state.st_mtime_ns)
