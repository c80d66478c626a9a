"""Pictures that look alike share an answer, in their zone and by its distance only."""

import base64
import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from PIL import Image

from inference.gateway.cache import Cache
from inference.gateway.frames import MAX_DISTANCE, MAX_PICTURES, Frame, Frames, Zones, picture_hash
from inference.gateway.keys import family_of
from inference.gateway.profile import NONE
from tests.inference.rooms import as_seen, encoded, room
from tests.inference.test_cache import GOOD, URL, body

WHERE = ("/api/generate", URL, "d")
ASKED: dict[str, Any] = {"model": "m", "prompt": "dirty?", "images": ["AAAA"], "options": {"temperature": 0}}


def apart(first: Image.Image, second: Image.Image, kind: str = "JPEG") -> int:
    hashes = [picture_hash(encoded(each, kind)) for each in (first, second)]
    assert hashes[0] is not None
    assert hashes[1] is not None
    return (hashes[0] ^ hashes[1]).bit_count()


# --- the hash ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_the_same_room_is_near_whatever_the_noise_and_the_light_and_another_one_is_not(seed: int) -> None:
    seen = as_seen(room(seed), seed=1)
    for light in (0.8, 1.0, 1.2):
        assert apart(seen, as_seen(room(seed), seed=2, light=light, noise=8)) <= 10
    assert apart(seen, as_seen(room(seed + 100), seed=1)) > MAX_DISTANCE


def test_size_and_format_of_the_file_do_not_matter() -> None:
    small, large = room(3), room(3, size=(1280, 960))
    assert apart(small, large) <= 4
    jpeg, png = picture_hash(encoded(small)), picture_hash("data:image/png;base64," + encoded(small, "PNG"))
    assert jpeg is not None
    assert png is not None
    assert (jpeg ^ png).bit_count() <= 4


def moving() -> str:
    file = io.BytesIO()
    room(1).save(file, "PNG", save_all=True, append_images=[room(2)])
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize(
    "picture",
    [
        {"url": "x"},
        "",
        "no base64!",
        base64.b64encode(b"no picture").decode(),
        encoded(room(1))[:400],  # broken off
        encoded(room(1), "GIF"),
        "https://example.org/a.jpg",
        "data:image/png," + encoded(room(1), "PNG"),
        encoded(room(1), "BMP"),
        moving(),
        encoded(Image.new("RGB", (64, 64), (9, 9, 9))),  # a covered lens: all of those are alike
        "A" * (12 * 2**20),
    ],
)
def test_what_can_not_be_compared_has_no_hash(picture: Any) -> None:
    assert picture_hash(picture) is None


def test_a_bomb_is_refused_by_its_head() -> None:
    largest = encoded(room(1).convert("1").resize((4000, 4000)), "PNG")
    assert picture_hash(largest) is not None
    bomb = encoded(room(1).convert("1").resize((4000, 4001)), "PNG")
    assert len(bomb) < 2 * len(largest)
    assert picture_hash(bomb) is None


async def test_pictures_are_looked_at_in_their_order_and_all_have_to_be_near() -> None:
    frames = Frames()
    try:
        one, other = encoded(room(1)), encoded(room(2))
        first, second = await frames.read(b"f", [one, other]), await frames.read(b"f", [one, one])
        assert first is not None
        assert second is not None
        assert first.distance(second) > MAX_DISTANCE
        assert first.distance(first) == 0
        assert await frames.read(b"f", [one, "broken"]) is None
        assert await frames.read(b"f", []) is None
        assert await frames.read(b"f", [one] * (MAX_PICTURES + 1)) is None
    finally:
        frames.close()


# --- what may match ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "clean?"},
        {"options": {"temperature": 0, "top_k": 1}},
        {"stream": True},
        {"images": ["A", "B"]},
    ],
)
def test_requests_that_differ_in_more_than_the_picture_are_no_family(change: dict[str, Any]) -> None:
    family, _ = family_of("kitchen", *WHERE, ASKED)
    assert family_of("kitchen", *WHERE, {**ASKED, "images": ["BBBB"]})[0] == family
    assert family_of("kitchen", *WHERE, {**ASKED, **change})[0] != family
    assert family_of("hall", *WHERE, ASKED)[0] != family
    assert family_of("kitchen", "/api/generate", URL, "other", ASKED)[0] != family


def test_pictures_are_found_wherever_they_stand() -> None:
    def of(picture: str, detail: str = "low") -> tuple[bytes, list[Any]]:
        part = {"type": "image_url", "image_url": {"url": picture, "detail": detail}}
        messages = [
            {"role": "user", "content": "x", "images": [picture]},
            {"role": "user", "content": [part, {"type": "image_url", "image_url": picture}]},
        ]
        return family_of("z", *WHERE, {"messages": messages, "images": [picture]})

    assert of("A")[1] == ["A"] * 4
    assert of("A")[0] == of("B")[0]
    assert of("A")[0] != of("A", "high")[0]


def store(cache: Cache, number: int, frame: Frame) -> None:
    recording = cache.record(b"%d" % number, URL, "m:latest", frame)
    recording.see({"type": "http.response.start", "status": 200, "headers": []})
    recording.see(body(b"%d" % number))
    cache.settle(recording, GOOD, 0)


# Few bits, so that pictures are near and equal often.
hashes = some.one_of(some.integers(0, 15), some.integers(0, 2**64 - 1))
pictures = some.tuples(some.sampled_from(["kitchen", "hall", ""]), hashes)


@settings(max_examples=200, deadline=None)
@given(kept=some.lists(pictures, max_size=12), asked=pictures, limit=some.integers(0, MAX_DISTANCE))
async def test_an_answer_is_of_the_zone_and_of_the_nearest_picture_within_the_distance(
    kept: list[tuple[str, int]], asked: tuple[str, int], limit: int
) -> None:
    cache = Cache()
    for number, (zone, one) in enumerate(kept):
        store(cache, number, Frame(family_of(zone, *WHERE, ASKED)[0], (one,)))
    zone, looked = asked
    entry, distance = cache.find_near(Frame(family_of(zone, *WHERE, ASKED)[0], (looked,)), limit, NONE, 1.0)
    near = [(one ^ looked).bit_count() for its, one in kept if its == zone]
    if not near or min(near) > limit:
        assert (entry, distance) == (None, None)
        return
    assert entry is not None
    its, one = kept[int(entry.chunks()[0])]
    assert its == zone
    assert distance == (one ^ looked).bit_count() == min(near)
    if limit == 0:
        assert one == looked


@settings(max_examples=30, deadline=None)
@given(
    seeds=some.lists(some.integers(0, 500), min_size=2, max_size=2),
    lights=some.tuples(some.floats(0.6, 1.4), some.floats(0.6, 1.4)),
)
async def test_at_a_distance_of_0_only_pictures_of_one_hash_share_an_answer(
    seeds: list[int], lights: tuple[float, float]
) -> None:
    cache, found = Cache(), []
    for seed, light in zip(seeds, lights, strict=True):
        one = picture_hash(encoded(as_seen(room(seed), seed=seed, light=light)))
        assert one is not None
        found.append(one)
    store(cache, 0, Frame(b"f", (found[0],)))
    entry, _ = cache.find_near(Frame(b"f", (found[1],)), 0, NONE, 1.0)
    assert (entry is not None) == (found[0] == found[1])


async def test_what_left_the_cache_is_near_to_nothing() -> None:
    cache, frame = Cache(ttl_s=10, max_entries=2), Frame(b"f", (1,))
    store(cache, 0, frame)
    assert cache.find_near(frame, 0, NONE, 10.0) == (None, None)  # too old by now
    for number in range(3):
        store(cache, number, Frame(b"f", (1 << 20 * number,)))
    assert cache.find_near(frame, 0, NONE, 1.0) == (None, None)
    assert cache.find_near(frame, MAX_DISTANCE, NONE, 1.0)[1] == 2
    cache.clear()
    assert cache.find_near(frame, MAX_DISTANCE, NONE, 1.0) == (None, None)


@pytest.mark.parametrize(
    "state", [{"zones": {"a": 17}}, {"zones": {"a": -1}}, {"zones": {"a": "x"}}, {"zones": 1}]
)
def test_zones_that_make_no_sense_are_refused_and_the_last_stay(state: dict[str, Any]) -> None:
    zones = Zones("redis://127.0.0.1:1")
    zones.take({"zones": {"kitchen": 6}})
    with pytest.raises((ValueError, AttributeError)):
        zones.take(state)
    assert zones.distances == {"kitchen": 6}
