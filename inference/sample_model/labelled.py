"""Writes the sample model's labelled prompts, of pairs it never saw: `python -m inference.sample_model.labelled`."""

import json
import random

from inference.quality.labelled import HOUSEHOLD
from inference.sample_model import corpus

N, SEED = 300, 977


def main() -> None:
    random_ = random.Random(SEED)
    with HOUSEHOLD.open("w") as out:
        for _ in range(N):
            example = corpus.draw(random_, random_.randint(1, 4), unseen=True)
            lines = [
                [
                    f"{number}. {verb} {corpus.definite(thing)} {place} [{corpus.THINGS[thing][0]}]"
                    for verb in corpus.THINGS[thing][1]
                ]
                for number, (thing, place) in enumerate(example.seen, 1)
            ]
            out.write(json.dumps({"prompt": example.prompt, "lines": lines}) + "\n")


if __name__ == "__main__":
    main()
