"""Pictures of made-up rooms: walls, a floor, furniture at places that a seed decides."""

import base64
import io
import random

import numpy as np
from PIL import Image, ImageDraw

SIZE = (320, 240)


def room(seed: int, *, size: tuple[int, int] = SIZE) -> Image.Image:
    chance = random.Random(seed)
    picture = Image.new("RGB", SIZE, _colour(chance))
    draw = ImageDraw.Draw(picture)
    horizon = chance.randint(110, 170)
    draw.rectangle((0, horizon, SIZE[0], SIZE[1]), fill=_colour(chance))
    for _ in range(7):
        x, y = chance.randint(0, 260), chance.randint(20, 180)
        width, height = chance.randint(30, 110), chance.randint(20, 80)
        draw.rectangle((x, y, x + width, y + height), fill=_colour(chance), outline=_colour(chance))
    return picture.resize(size)


def as_seen(picture: Image.Image, *, seed: int, light: float = 1.0, noise: float = 4.0) -> Image.Image:
    """By a camera: brighter or darker, with noise of so many grey levels."""
    chance = np.random.default_rng(seed)
    pixels = np.asarray(picture, dtype=float) * light + chance.normal(0, noise, (*picture.size[::-1], 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def encoded(picture: Image.Image, kind: str = "JPEG") -> str:
    """As a client sends it."""
    file = io.BytesIO()
    picture.save(file, kind)
    return base64.b64encode(file.getvalue()).decode()


def _colour(chance: random.Random) -> tuple[int, int, int]:
    return chance.randint(20, 235), chance.randint(20, 235), chance.randint(20, 235)
