"""Writes a GGUF file without some of its layers: the others are renumbered, all else stays byte for byte.

The tensors are those that `llama-quantize --prune-layers` writes; it leaves keys with a value per layer as they are, here
they lose the same layers, and what depends on a layer's number in a way that is not known is refused."""

import mmap
import re
import struct
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from gguf import GGUFValueType as Kind

from inference.gguf_tools.container import (
    SCALARS,
    Header,
    Tensor,
    encoded,
    forget,
    pad,
    read_header,
    whole_file,
    write_header,
)

PART_BYTES = 2**24  # copied at a time
BLOCK = re.compile(r"blk\.(\d+)\.(.+)")
Progress = Callable[[int, int], None]  # bytes that are done, of all

# Of the architecture's arrays: those with a value per layer, and those that have nothing to do with layers.
PER_LAYER = {
    "attention.head_count",
    "attention.head_count_kv",
    "attention.sliding_window_pattern",
    "activation_sparsity_scale",
    "feed_forward_length",
    "swiglu_clamp_exp",
    "swiglu_clamp_shexp",
}
OTHER_ARRAYS = {"rope.dimension_sections", "classifier.output_labels"}
# Numbers that say by its place what a layer is: so many are special, or each so-and-so-many-th.
SPECIAL = {
    "attention.shared_kv_layers",
    "leading_dense_block_count",
    "n_deepstack_layers",
    "nextn_predict_layers",
}
EVERY = {
    "attention.sliding_window_pattern",
    "full_attention_interval",
    "interleave_moe_layer_step",
    "moe_every_n_layers",
    "rescale_every_n_layers",
}


class PruneError(ValueError):
    """The file can't lose these layers; the text says why."""


def n_layers(header: Header) -> int:
    """Raises PruneError where the layers are not plain `blk.0` to `blk.N`, or their kind depends on their place."""
    architecture = header.keys.get("general.architecture")
    found = header.keys.get(f"{architecture}.block_count")
    if not isinstance(found, int) or found < 1:
        raise PruneError("the file does not say how many layers it has")
    present = {int(match[1]) for each in header.tensors if (match := BLOCK.fullmatch(each.name))}
    if present != set(range(found)):
        raise PruneError(
            f"the file says that it has {found} layers, but its tensors are not those of as many"
        )
    for name, value in header.keys.items():
        if not name.startswith(f"{architecture}."):
            continue
        key = name.removeprefix(f"{architecture}.")
        if value is None and key not in PER_LAYER | OTHER_ARRAYS:
            raise PruneError(f"{name} has a list of values, and whether they belong to layers is not known")
        if isinstance(value, int) and ((key in SPECIAL and value > 0) or (key in EVERY and value > 1)):
            raise PruneError(f"{name} = {value} makes the kind of a layer depend on its place")
    return found


def remaining(header: Header, dropped: Collection[int]) -> list[tuple[str, Tensor]]:
    """New name and tensor of all that stays, in the order of the file. Raises PruneError."""
    total = n_layers(header)
    if unknown := sorted(each for each in dropped if not 0 <= each < total):
        raise PruneError(
            f"the file has no layer {', '.join(map(str, unknown))}: its layers are 0 to {total - 1}"
        )
    if len(set(dropped)) == total:
        raise PruneError(f"at least one of the {total} layers has to stay")
    stay = [layer for layer in range(total) if layer not in dropped]
    numbers = {before: after for after, before in enumerate(stay)}
    found = []
    for tensor in header.tensors:
        match = BLOCK.fullmatch(tensor.name)
        if match is None:
            found.append((tensor.name, tensor))
        elif (number := numbers.get(int(match[1]))) is not None:
            found.append((f"blk.{number}.{match[2]}", tensor))
    return found


def pruned_bytes(header: Header, dropped: Collection[int]) -> int:
    """Size that the file will have, but for its padding. Raises PruneError."""
    head = min((each.offset for each in header.tensors), default=0)
    return head + sum(tensor.n_bytes for _, tensor in remaining(header, dropped))


def prune_file(
    source: Path, destination: Path, dropped: Collection[int], progress: Progress | None = None
) -> None:
    """Write `source` without the layers `dropped` (0 is the first); appears whole or not at all.

    Raises PruneError, NotGgufError for what is no model, OSError for what the disk refuses."""
    header = read_header(source)
    tensors = remaining(header, dropped)
    with (
        source.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        whole_file(destination) as out,
    ):
        keys = [raw for _, raw in keys_without(data, header, dropped)]
        write_header(out, keys, ((name, each.type, each.shape) for name, each in tensors), header.alignment)
        done, total = 0, sum(tensor.n_bytes for _, tensor in tensors)
        for _, tensor in tensors:
            for place in range(tensor.offset, tensor.offset + tensor.n_bytes, PART_BYTES):
                out.write(data[place : min(place + PART_BYTES, tensor.offset + tensor.n_bytes)])
            pad(out, header.alignment)
            forget(data, tensor)
            done += tensor.n_bytes
            if progress:
                progress(done, total)


def keys_without(data: mmap.mmap, header: Header, dropped: Collection[int]) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each key: as they are, but for the number of layers and the values of those that go."""
    architecture, total = header.keys["general.architecture"], n_layers(header)
    for name, span in header.spans.items():
        raw = data[slice(*span)]
        key = name.removeprefix(f"{architecture}.")
        if name == f"{architecture}.block_count":
            yield name, encoded(name, total - len(set(dropped)))
        elif header.keys[name] is None and name != key and key in PER_LAYER:
            yield name, _shortened(name, raw, total, dropped)
        else:
            yield name, raw


def _shortened(name: str, raw: bytes, total: int, dropped: Collection[int]) -> bytes:
    """An array of one number per layer, without those of the dropped ones."""
    start = 8 + len(name.encode()) + 4  # of the name, and the kind: array
    kind, length = struct.unpack_from("<IQ", raw, start)
    if length != total or Kind(kind) not in SCALARS:
        raise PruneError(f"{name} has {length} values, where {total} layers need a number each")
    size = struct.calcsize(f"<{SCALARS[Kind(kind)]}")
    values = raw[start + 12 :]
    stay = [layer for layer in range(total) if layer not in dropped]
    kept = b"".join(values[layer * size : (layer + 1) * size] for layer in stay)
    return raw[:start] + struct.pack("<IQ", kind, len(stay)) + kept
