"""The shipped sets and the synthetic prompts."""

import base64
import json
import struct
import zlib
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from benchmarks.workloads import make
from benchmarks.workloads.draw import HEIGHT, WIDTH
from benchmarks.workloads.prompts import DATA, in_order, read_set, synthetic, with_nonces
from benchmarks.workloads.sets import NAMES


def pixels(png: bytes) -> bytes:
    """Checks every chunk of the file; the rows as they are stored."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    at, data = 8, b""
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        chunk = png[at + 4 : at + 8 + length]
        assert struct.unpack(">I", png[at + 8 + length : at + 12 + length])[0] == zlib.crc32(chunk)
        if chunk[:4] == b"IHDR":
            assert struct.unpack(">II", chunk[4:12]) == (WIDTH, HEIGHT)
        if chunk[:4] == b"IDAT":
            data += zlib.decompress(chunk[4:])
        at += 12 + length
    assert len(data) == HEIGHT * (1 + 3 * WIDTH)
    return data


@pytest.mark.parametrize("name", NAMES)
def test_shipped_set_has_forty_different_prompts_or_more(name: str) -> None:
    prompts = read_set(name)
    assert len(prompts) >= 40
    assert len({each.id for each in prompts}) == len(prompts)
    assert len({(each.text, each.images, each.described) for each in prompts}) == len(prompts)


def test_sets_hold_what_their_names_say() -> None:
    assert all(
        each.text.startswith("Room: ") and "Seen: " in each.text for each in read_set("task_generation")
    )
    for each in read_set("image_analysis"):
        assert len(each.images) == 1
        pixels(base64.b64decode(each.images[0]))
        plain = each.without_images()
        assert plain.images == ()
        assert plain.text.startswith("Room: ")
        assert plain.id == each.id
    kinds = Counter(each.id.split("-")[0] for each in read_set("mixed"))
    assert kinds == {"image": 16, "task": 16, "change": 16}


def test_script_makes_what_is_shipped(tmp_path: Path) -> None:
    make.write(tmp_path)
    for name in NAMES:
        assert json.loads((tmp_path / f"{name}.json").read_text()) == json.loads(
            (DATA / f"{name}.json").read_text()
        )
    shipped = sorted(path.name for path in (DATA / "images").iterdir())
    assert shipped == sorted(path.name for path in (tmp_path / "images").iterdir())
    for name in shipped:
        assert pixels((tmp_path / "images" / name).read_bytes()) == pixels(
            (DATA / "images" / name).read_bytes()
        )


def test_order_is_that_of_the_seed_and_uses_all_before_any_again() -> None:
    prompts = read_set("mixed")
    first, again, other = (list(islice(in_order(prompts, seed), 100)) for seed in (1, 1, 2))
    assert first == again != other
    assert {each.id for each in first[: len(prompts)]} == {each.id for each in prompts}


def test_nonces_change_text_and_description_alike() -> None:
    prompts = read_set("image_analysis")
    for before, after in zip(prompts, with_nonces(iter(prompts)), strict=True):
        nonce = after.text.split(" ")[0]
        assert after.text == f"{nonce} {before.text}"
        assert after.described == f"{nonce} {before.described}"
        assert after.images == before.images


def test_synthetic_prompts_have_their_number_of_words() -> None:
    made = list(islice(synthetic(30, 1), 5))
    assert {len(each.text.split()) for each in made} == {30}
    assert len({each.text for each in made}) == len({each.id for each in made}) == 5
