"""Pictures that look alike: a camera's frames differ by noise and light, and a question about them is asked again and again.

Off by default. A zone (the header `x-aicleaner-zone`) or an API key that the console gives a distance takes the answer to
a picture that near, if all else of the request is equal. A picture is compared by its perceptual hash (64 bits of a cosine
transform)."""

import asyncio
import base64
import io
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from inference.gateway.api_keys import Key
from inference.gateway.pushed import ZONES, Pushed

MAX_DISTANCE = 16  # of 64 bits; pictures of different places are about 32 apart
MAX_PICTURES, MAX_BYTES, MAX_PIXELS = 4, 8 * 2**20, 16_000_000
MAX_WAITING = 32  # requests whose pictures wait for the one thread; those beyond are asked as new
FORMATS = ("JPEG", "PNG", "WEBP")  # what cameras send; each other decoder is one more that can be attacked
SIDE = 32  # of the picture that the hash is made of
FLAT = 3.0  # grey levels of deviation: a dark or covered camera shows nothing that could be compared
log = logging.getLogger("inference.gateway")


def key_zones(key_id: int) -> str:
    """How the zones of a key begin: by what no header can hold."""
    return f"key {key_id}\n"


@dataclass(frozen=True, slots=True)
class Frame:
    """`family`: key of all but the pictures; a hash for each of those."""

    family: bytes
    hashes: tuple[int, ...]

    def distance(self, other: "Frame") -> int:
        """Bits by which the least similar pictures differ."""
        return max((a ^ b).bit_count() for a, b in zip(self.hashes, other.hashes, strict=True))


class Zones(Pushed):
    """How far apart the frames of each zone may be."""

    def __init__(self, valkey_url: str) -> None:
        super().__init__(valkey_url, ZONES)
        self.distances: dict[str, int] = {}

    def take(self, state: dict[str, Any]) -> None:
        """`{"zones": {"kitchen": 6}}`"""
        found = {str(name): int(distance) for name, distance in state["zones"].items()}
        if wrong := [name for name, distance in found.items() if not 0 <= distance <= MAX_DISTANCE]:
            raise ValueError(f"the distance of zone {wrong[0]} is not between 0 and {MAX_DISTANCE}")
        self.distances = found

    def shared_by(self, zone: str, key: Key | None) -> tuple[str, int | None]:
        """Among whose frames answers are shared, and how far apart those may be; None: not at all. A distance of the zone
        counts; else that of the key, among its own requests of the same zone."""
        distance = self.distances.get(zone)
        if distance is None and key is not None and key.frame_distance is not None:
            return f"{key_zones(key.id)}{zone}", key.frame_distance
        return zone, distance


class Frames:
    """Looks at pictures beside the event loop, one at a time: a decoded one takes up to 64 MB."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "frames")
        self._n_waiting = 0

    async def read(self, family: bytes, pictures: list[Any]) -> Frame | None:
        """None where there is no picture, one that can't be compared, or no time for it."""
        if not 0 < len(pictures) <= MAX_PICTURES or self._n_waiting >= MAX_WAITING:
            return None
        self._n_waiting += 1
        try:
            hashes = await asyncio.get_running_loop().run_in_executor(self._pool, _hashes, pictures)
        finally:
            self._n_waiting -= 1
        return Frame(family, tuple(hashes)) if hashes else None

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def _hashes(pictures: list[Any]) -> list[int]:
    """One for each; empty when one has none."""
    found = []
    for picture in pictures:
        if (one := picture_hash(picture)) is None:
            return []
        found.append(one)
    return found


def picture_hash(text: Any) -> int | None:
    """Of a picture in base64, alone or as a `data:` address. None for what is no still picture of FORMATS, is too large
    to be looked at, or shows nothing."""
    if not isinstance(text, str):
        return None
    if text.startswith("data:"):
        head, _, text = text.partition(",")
        if not head.endswith(";base64"):
            return None
    if len(text) > MAX_BYTES * 4 / 3:
        return None
    # Only here: they cost memory and half a second that a gateway without zones need not spend.
    import imagehash
    from PIL import Image, ImageStat

    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=FORMATS) as image:
            # The head of the file says its size: a bomb is refused before it unfolds.
            if image.width * image.height > MAX_PIXELS or getattr(image, "n_frames", 1) != 1:
                return None
            image.draft("L", (4 * SIDE, 4 * SIDE))  # a JPEG is decoded at a fraction of its size
            small = image.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        if ImageStat.Stat(small).stddev[0] < FLAT:
            return None
        return int(str(imagehash.phash(small)), 16)
    except (
        Exception
    ):  # whatever a decoder raises on bytes that strangers send; the request goes to the engine
        log.debug("a picture can't be compared", exc_info=True)
        return None
