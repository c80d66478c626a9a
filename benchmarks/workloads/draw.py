"""Small pictures of rooms, drawn by code: what is seen lies where the description says."""

import random
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 320, 240
Box = tuple[int, int, int, int]  # left, top, right, bottom
Colour = tuple[int, int, int]

# Where a thing can lie: the box it is drawn in.
PLACES: dict[str, Box] = {
    "on the floor": (20, 195, 300, 235),
    "on the table": (190, 118, 290, 138),
    "on the sofa": (30, 140, 130, 160),
    "on the shelf": (30, 42, 130, 58),
    "on the windowsill": (180, 80, 280, 92),
}
WALLS: tuple[Colour, ...] = (
    (238, 232, 213),
    (214, 226, 233),
    (226, 236, 219),
    (240, 222, 222),
    (232, 228, 240),
)
FLOORS: tuple[Colour, ...] = ((181, 140, 99), (150, 111, 80), (172, 172, 168), (120, 96, 76))


class Picture:
    def __init__(self) -> None:
        self.pixels: NDArray[np.uint8] = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        self._y, self._x = np.mgrid[0:HEIGHT, 0:WIDTH]

    def box(self, left: int, top: int, right: int, bottom: int, colour: Colour) -> None:
        self.pixels[max(top, 0) : bottom, max(left, 0) : right] = colour

    def oval(self, x: int, y: int, width: int, height: int, colour: Colour) -> None:
        inside = ((self._x - x) / (width / 2)) ** 2 + ((self._y - y) / (height / 2)) ** 2 <= 1
        self.pixels[inside] = colour

    def png(self) -> bytes:
        """Truecolour, 8 bits, no filter (PNG 1.2, chapters 3 and 4)."""
        rows = b"".join(b"\0" + row.tobytes() for row in self.pixels)
        header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)
        chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )


def draw_room(random_: random.Random, seen: list[tuple[str, str]]) -> bytes:
    """A PNG of a room with sofa, table, shelf and window, and each (thing, place) in it."""
    picture = Picture()
    picture.box(0, 0, WIDTH, 180, random_.choice(WALLS))
    picture.box(0, 180, WIDTH, HEIGHT, random_.choice(FLOORS))
    picture.box(185, 20, 275, 90, (120, 90, 60))
    picture.box(190, 25, 270, 85, (178, 214, 240))
    picture.box(180, 90, 280, 96, (250, 250, 245))
    picture.box(25, 58, 135, 64, (110, 78, 50))
    sofa = random_.choice(((86, 110, 140), (140, 86, 92), (98, 128, 98)))
    picture.box(20, 120, 140, 160, sofa)
    picture.box(16, 150, 144, 190, tuple(each - 24 for each in sofa))  # type: ignore[arg-type]
    picture.box(185, 138, 295, 146, (146, 104, 66))
    for leg in (192, 282):
        picture.box(leg, 146, leg + 6, 200, (120, 84, 52))
    for thing, place in seen:
        THINGS[thing](picture, random_, PLACES[place])
    return picture.png()


def _spots(picture: Picture, random_: random.Random, box: Box, n: int, size: int, *colours: Colour) -> None:
    for _ in range(n):
        x, y = random_.randint(box[0], box[2]), random_.randint(box[1], box[3])
        picture.oval(
            x,
            y,
            size + random_.randint(0, size),
            size + random_.randint(0, size // 2),
            random_.choice(colours),
        )


def _blocks(
    picture: Picture, random_: random.Random, box: Box, n: int, width: int, height: int, *colours: Colour
) -> None:
    for _ in range(n):
        x, y = random_.randint(box[0], box[2] - width), random_.randint((box[1] + box[3]) // 2, box[3])
        picture.box(x, y - height, x + width, y, random_.choice(colours))


THINGS = {
    "crumbs": lambda p, r, b: _spots(p, r, b, 40, 2, (214, 170, 104), (190, 140, 80)),
    "dust": lambda p, r, b: _spots(p, r, b, 60, 2, (200, 200, 200), (170, 170, 170)),
    "a puddle of water": lambda p, r, b: _spots(p, r, b, 2, 22, (120, 170, 220)),
    "spilled juice": lambda p, r, b: _spots(p, r, b, 2, 18, (240, 150, 30)),
    "dirty clothes": lambda p, r, b: _spots(p, r, b, 5, 14, (60, 70, 130), (150, 60, 70), (90, 120, 90)),
    "empty bottles": lambda p, r, b: _blocks(p, r, b, 4, 6, 20, (40, 120, 60), (120, 80, 30)),
    "books": lambda p, r, b: _blocks(p, r, b, 6, 16, 6, (150, 40, 40), (40, 60, 140), (200, 170, 60)),
    "toys": lambda p, r, b: _blocks(p, r, b, 7, 9, 9, (230, 50, 50), (50, 90, 230), (250, 210, 40)),
    "dirty dishes": lambda p, r, b: _spots(p, r, b, 5, 12, (250, 250, 250), (226, 226, 230)),
    "paper scraps": lambda p, r, b: _blocks(p, r, b, 8, 8, 5, (252, 252, 252), (236, 236, 226)),
    "dry leaves": lambda p, r, b: _spots(p, r, b, 14, 4, (160, 110, 40), (120, 130, 40)),
    "a full trash bag": lambda p, r, b: _spots(p, r, b, 1, 30, (30, 30, 34)),
    "muddy footprints": lambda p, r, b: _spots(p, r, b, 9, 6, (86, 60, 36)),
    "beer cans": lambda p, r, b: _blocks(p, r, b, 4, 7, 12, (190, 190, 196), (180, 40, 40)),
}
