"""The sample model's language: a room and what is seen in it, answered by one task per mess with a priority.

Everything is made by code from the lists below. One (thing, place) pair in eight is held out of training, chosen by a
hash of the pair, so that training and test agree without a list of pairs."""

import random
import re
import zlib
from dataclasses import dataclass

# thing: (priority, verbs that are right for it)
THINGS: dict[str, tuple[str, tuple[str, str]]] = {
    # to wash up or put away
    "dirty dishes": ("high", ("Wash", "Clean")),
    "a dirty plate": ("medium", ("Wash", "Clean")),
    "a greasy pan": ("high", ("Scrub", "Wash")),
    "a dirty pot": ("high", ("Scrub", "Wash")),
    "empty glasses": ("medium", ("Collect", "Wash")),
    "a coffee mug": ("low", ("Wash", "Collect")),
    "two cups": ("low", ("Wash", "Collect")),
    "dirty cutlery": ("medium", ("Wash", "Collect")),
    "a lunch box": ("medium", ("Empty", "Wash")),
    "a baking tray": ("medium", ("Scrub", "Wash")),
    "a wine glass": ("low", ("Wash", "Collect")),
    "a sticky spoon": ("low", ("Wash", "Clean")),
    # spilt
    "milk": ("high", ("Mop up", "Wipe up")),
    "spilled juice": ("high", ("Mop up", "Wipe up")),
    "spilled coffee": ("high", ("Mop up", "Wipe up")),
    "spilled wine": ("high", ("Blot", "Mop up")),
    "a puddle of water": ("high", ("Mop up", "Dry")),
    "sauce stains": ("medium", ("Wipe off", "Scrub")),
    "a ketchup stain": ("medium", ("Wipe off", "Scrub")),
    "an ink stain": ("medium", ("Treat", "Scrub")),
    "oil drops": ("high", ("Wipe up", "Degrease")),
    "egg yolk": ("high", ("Wipe up", "Scrub")),
    "candle wax": ("low", ("Scrape off", "Remove")),
    "chewing gum": ("medium", ("Scrape off", "Remove")),
    "toothpaste": ("low", ("Wipe off", "Rinse off")),
    "soap scum": ("medium", ("Scrub", "Rinse off")),
    "limescale": ("low", ("Descale", "Scrub")),
    "mud": ("high", ("Mop up", "Scrape off")),
    "muddy footprints": ("high", ("Mop up", "Wipe up")),
    "wet footprints": ("medium", ("Dry", "Mop up")),
    "paint spots": ("medium", ("Scrub", "Scrape off")),
    "honey": ("medium", ("Wipe up", "Rinse off")),
    # to sweep or vacuum
    "crumbs": ("medium", ("Sweep up", "Vacuum")),
    "bread crumbs": ("medium", ("Sweep up", "Vacuum")),
    "dust": ("low", ("Dust off", "Vacuum")),
    "dust bunnies": ("low", ("Vacuum", "Sweep up")),
    "cat hair": ("medium", ("Vacuum", "Brush off")),
    "dog hair": ("medium", ("Vacuum", "Brush off")),
    "human hair": ("medium", ("Vacuum", "Remove")),
    "cobwebs": ("low", ("Brush off", "Remove")),
    "sand": ("medium", ("Sweep up", "Vacuum")),
    "dry leaves": ("low", ("Sweep up", "Collect")),
    "potting soil": ("medium", ("Sweep up", "Vacuum")),
    "spilled flour": ("medium", ("Sweep up", "Wipe up")),
    "spilled sugar": ("medium", ("Sweep up", "Wipe up")),
    "spilled rice": ("medium", ("Sweep up", "Collect")),
    "cereal": ("medium", ("Sweep up", "Vacuum")),
    "cat litter": ("high", ("Sweep up", "Vacuum")),
    "broken glass": ("high", ("Pick up carefully", "Sweep up")),
    "a broken vase": ("high", ("Pick up carefully", "Remove")),
    "wood chips": ("low", ("Sweep up", "Vacuum")),
    "pencil shavings": ("low", ("Sweep up", "Vacuum")),
    "confetti": ("low", ("Sweep up", "Vacuum")),
    "pine needles": ("low", ("Sweep up", "Vacuum")),
    "ash": ("medium", ("Sweep up", "Vacuum")),
    # clothes and fabrics
    "dirty clothes": ("medium", ("Wash", "Collect")),
    "a pile of laundry": ("medium", ("Sort", "Wash")),
    "clean laundry": ("low", ("Fold", "Put away")),
    "wet towels": ("high", ("Hang up", "Wash")),
    "a used towel": ("medium", ("Wash", "Hang up")),
    "a bath mat": ("low", ("Hang up", "Shake out")),
    "socks": ("low", ("Collect", "Put away")),
    "dirty socks": ("medium", ("Wash", "Collect")),
    "a jacket": ("low", ("Hang up", "Put away")),
    "a raincoat": ("low", ("Hang up", "Dry")),
    "a school bag": ("low", ("Put away", "Empty")),
    "a scarf": ("low", ("Fold", "Put away")),
    "shoes": ("low", ("Line up", "Put away")),
    "muddy boots": ("high", ("Clean", "Brush off")),
    "a blanket": ("low", ("Fold", "Shake out")),
    "pillows": ("low", ("Straighten", "Shake out")),
    "bed sheets": ("medium", ("Change", "Wash")),
    "a wrinkled tablecloth": ("low", ("Straighten", "Change")),
    "a stained curtain": ("medium", ("Wash", "Treat")),
    # rubbish
    "an overflowing bin": ("high", ("Empty", "Take out")),
    "a full trash bag": ("high", ("Take out", "Replace")),
    "food scraps": ("high", ("Throw away", "Remove")),
    "rotten fruit": ("high", ("Throw away", "Remove")),
    "a banana peel": ("high", ("Throw away", "Pick up")),
    "an apple core": ("medium", ("Throw away", "Pick up")),
    "a pizza box": ("medium", ("Throw away", "Recycle")),
    "cardboard boxes": ("low", ("Recycle", "Break down")),
    "empty bottles": ("low", ("Recycle", "Collect")),
    "beer cans": ("medium", ("Recycle", "Collect")),
    "plastic bags": ("low", ("Recycle", "Collect")),
    "candy wrappers": ("low", ("Throw away", "Pick up")),
    "used tissues": ("high", ("Throw away", "Pick up")),
    "paper scraps": ("low", ("Recycle", "Pick up")),
    "old newspapers": ("low", ("Recycle", "Stack")),
    "dead batteries": ("medium", ("Recycle", "Collect")),
    "a dead plant": ("low", ("Throw away", "Remove")),
    "cigarette butts": ("high", ("Throw away", "Collect")),
    # things that lie about
    "toys": ("medium", ("Pick up", "Put away")),
    "toy cars": ("medium", ("Pick up", "Put away")),
    "building blocks": ("high", ("Pick up", "Sort")),
    "puzzle pieces": ("low", ("Collect", "Sort")),
    "crayons": ("low", ("Collect", "Put away")),
    "books": ("low", ("Stack", "Put away")),
    "magazines": ("low", ("Stack", "Recycle")),
    "letters": ("low", ("Sort", "Stack")),
    "tangled cables": ("medium", ("Untangle", "Sort")),
    "tools": ("high", ("Put away", "Collect")),
    "a ladder": ("high", ("Put away", "Fold")),
    "game controllers": ("low", ("Put away", "Collect")),
    "headphones": ("low", ("Put away", "Untangle")),
    "a yoga mat": ("low", ("Roll up", "Put away")),
    "dumbbells": ("high", ("Put away", "Line up")),
    "grocery bags": ("medium", ("Empty", "Put away")),
    "pet food": ("medium", ("Sweep up", "Put away")),
    "a water bowl": ("medium", ("Refill", "Rinse off")),
    "fingerprints": ("low", ("Wipe off", "Polish")),
    "streaks": ("low", ("Wipe off", "Polish")),
}

PLACES: tuple[str, ...] = (
    *("on the floor", "on the table", "in the sink", "on the counter", "on the stove", "on the sofa"),
    *("on the carpet", "on the chair", "on the shelf", "under the table", "under the bed", "on the bed"),
    *(
        "next to the bin",
        "on the windowsill",
        "on the desk",
        "in the corner",
        "behind the door",
        "near the door",
    ),
    *("on the stairs", "in the hallway", "on the rug", "under the sofa", "on the armchair", "on the dresser"),
    *("in the shower", "in the bathtub", "on the mirror", "on the washing machine", "in the basket"),
    *("by the fridge", "on the bench", "on the balcony", "on the workbench"),
)

ROOMS: tuple[str, ...] = (
    *("kitchen", "living room", "bedroom", "bathroom", "hallway", "office", "dining room", "laundry room"),
    *("garage", "children's room", "guest room", "basement", "balcony", "attic"),
)

SPECIALS = ("<|pad|>", "<|bos|>", "<|end|>", "<|user|>", "<|assistant|>")
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}<|assistant|>{% else %}<|user|>{% endif %}"
    "{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
ANSWER_LINE = re.compile(r"(\d+)\. (.+) \[(high|medium|low)\]")


def held_out(thing: str, place: str) -> bool:
    """Whether the pair is kept for tests: one pair in eight."""
    return zlib.crc32(f"{thing}|{place}".encode()) % 8 == 0


@dataclass(frozen=True)
class Example:
    """A room with what is seen in it; `answer` is one of several right ones."""

    room: str
    seen: tuple[tuple[str, str], ...]
    verbs: tuple[str, ...]

    @property
    def prompt(self) -> str:
        things = "; ".join(f"{thing} {place}" for thing, place in self.seen)
        return f"Room: {self.room}. Seen: {things}."

    @property
    def answer(self) -> str:
        return "\n".join(
            f"{number}. {verb} {definite(thing)} {place} [{THINGS[thing][0]}]"
            for number, ((thing, place), verb) in enumerate(zip(self.seen, self.verbs, strict=True), 1)
        )

    @property
    def text(self) -> str:
        """As the chat template writes it, answer included."""
        return f"<|bos|><|user|>{self.prompt}<|end|><|assistant|>{self.answer}<|end|>"


def definite(thing: str) -> str:
    """'a jacket' -> 'the jacket', 'toys' -> 'the toys'."""
    return "the " + re.sub(r"^(an?|two) ", "", thing)


def draw(random_: random.Random, n_items: int, *, unseen: bool) -> Example:
    """An example of `n_items` different things, its pairs all held out (`unseen`) or all from training."""
    seen: dict[str, str] = {}
    while len(seen) < n_items:
        thing, place = random_.choice(list(THINGS)), random_.choice(PLACES)
        if thing not in seen and held_out(thing, place) == unseen:
            seen[thing] = place
    verbs = tuple(random_.choice(THINGS[thing][1]) for thing in seen)
    return Example(random_.choice(ROOMS), tuple(seen.items()), verbs)


def right_lines(example: Example, answer: str) -> list[bool]:
    """For each expected line whether the answer has it: number, a verb that fits, thing, place and priority."""
    lines = answer.strip().split("\n")
    result = []
    for number, (thing, place) in enumerate(example.seen, 1):
        priority, verbs = THINGS[thing]
        right = {f"{number}. {verb} {definite(thing)} {place} [{priority}]" for verb in verbs}
        result.append(number <= len(lines) and lines[number - 1] in right)
    return result


def is_exact(example: Example, answer: str) -> bool:
    """Whether every line is right and none is too many."""
    return all(right_lines(example, answer)) and len(answer.strip().split("\n")) == len(example.seen)
