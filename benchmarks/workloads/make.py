"""`python -m benchmarks.workloads.make [FOLDER]`: write the shipped sets and their pictures; always the same."""

import json
import random
import sys
from pathlib import Path
from typing import Any

from benchmarks.workloads import draw
from benchmarks.workloads.prompts import DATA
from inference.sample_model import corpus

N_PROMPTS = 48
QUESTIONS = (
    "What needs cleaning in this room? Answer with one task a line: number, task, priority in brackets.",
    "List everything in the picture that is dirty or out of place, the most urgent first.",
    "You plan the cleaning of this room. Which tasks do you see, and how urgent is each?",
    "Describe the mess in this picture and say for each part of it what to do.",
)


def describe(room: str, seen: list[tuple[str, str]]) -> str:
    return f"Room: {room}. Seen: {'; '.join(f'{thing} {place}' for thing, place in seen)}."


def tasks(random_: random.Random, n: int) -> list[dict[str, Any]]:
    """In the sample model's own format, one to five things a room."""
    return [
        {"id": f"task-{number:02}", "text": corpus.draw(random_, 1 + number % 5, unseen=False).prompt}
        for number in range(1, n + 1)
    ]


def images(random_: random.Random, n: int) -> list[tuple[dict[str, Any], bytes]]:
    """(prompt, PNG): two to five things a picture."""
    made = []
    for number in range(1, n + 1):
        things = random_.sample(list(draw.THINGS), 2 + number % 4)
        seen = [(thing, random_.choice(list(draw.PLACES))) for thing in things]
        entry = {
            "id": f"image-{number:02}",
            "text": random_.choice(QUESTIONS),
            "images": [f"images/room-{number:02}.png"],
            "described": describe(random_.choice(corpus.ROOMS), seen),
        }
        made.append((entry, draw.draw_room(random_, seen)))
    return made


def changes(random_: random.Random, n: int) -> list[dict[str, Any]]:
    """A room before and after, as a sensor or a second picture tells it."""
    made = []
    for number in range(1, n + 1):
        before = list(corpus.draw(random_, 2 + number % 4, unseen=False).seen)
        after = random_.sample(before, len(before) // 2) + list(corpus.draw(random_, 1, unseen=False).seen)
        room = random_.choice(corpus.ROOMS)
        text = (
            f"Before. {describe(room, before)} Now. {describe(room, after)} "
            "Which tasks are done, which are left, and which are new?"
        )
        made.append({"id": f"change-{number:02}", "text": text})
    return made


def write(folder: Path) -> None:
    """The three sets: JSON lists of {id, text, images?, described?}."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    pictures = images(random.Random("images"), N_PROMPTS)
    for entry, png in pictures:
        (folder / entry["images"][0]).write_bytes(png)
    third = N_PROMPTS // 3
    sets = {
        "image_analysis": [entry for entry, _ in pictures],
        "task_generation": tasks(random.Random("tasks"), N_PROMPTS),
        "mixed": [
            *[entry for entry, _ in pictures[:third]],
            *tasks(random.Random("mixed tasks"), third),
            *changes(random.Random("changes"), third),
        ],
    }
    for name, entries in sets.items():
        (folder / f"{name}.json").write_text(json.dumps(entries, indent=1) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else DATA)
