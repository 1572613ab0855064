"""Captions made by rule for tests and measurements: as long as the release's, with Zipf's words."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import accumulate

__all__ = ["SOURCES", "WORLD_CAPTIONS", "made_rows", "nonsense_words"]

SOURCES = (("WebVid", 400), ("VIDAL", 450), ("ActivityNet", 50))

_OPENINGS = (
    "The video shows {}",
    "The video opens with {}",
    "In the video, {}",
    "The clip begins with {}",
    "A close-up of {}",
)
_JOINTS = (
    "then {} comes into view",
    "while {} stays in the background",
    "and on the left {} can be seen",
    "as the camera slowly pans to {}",
    "with {} next to it",
    "where two red lamps light {}",
    "before {} turns to the right",
    "behind which {} is visible",
)


def nonsense_words(count: int, rng: random.Random) -> list[str]:
    """Different words that can be pronounced, none of them English on purpose."""
    found: dict[str, None] = {}
    while len(found) < count:
        parts = (
            rng.choice("bcdfghjklmnprstvwz") + rng.choice("aeiou") for _ in range(rng.randint(2, 4))
        )
        found["".join(parts) + rng.choice(("", "n", "r", "s", "t"))] = None
    return list(found)


def made_rows(count: int, seed: int = 0, *, copies: float = 0.02) -> Iterator[dict[str, object]]:
    """Raw rows of the release's caption file, about 120 words each (sd 35).

    A share of `copies` repeats an earlier caption with one word in forty replaced.
    """
    rng = random.Random(seed)
    words = nonsense_words(30_000, rng)
    weights = list(accumulate(1.0 / (rank + 2.7) for rank in range(len(words))))
    names, shares = zip(*SOURCES, strict=True)
    earlier: list[str] = []
    for number in range(count):
        if earlier and rng.random() < copies:
            tokens = rng.choice(earlier).split(" ")
            for place in rng.sample(range(len(tokens)), max(1, len(tokens) // 40)):
                tokens[place] = rng.choice(words)
            text = " ".join(tokens)
        else:
            text = _caption(rng, words, weights, max(20, round(rng.gauss(120, 35))))
        if len(earlier) < 2000:
            earlier.append(text)
        source = rng.choices(names, shares)[0]
        yield {
            "id": f"{source.lower()}_{number:07d}",
            "video": f"{source.lower()}_{number:07d}",
            "source": source,
            "conversations": [
                {"from": "human", "value": "<video>\nDescribe the video in detail."},
                {"from": "gpt", "value": text},
            ],
        }


def _caption(rng: random.Random, words: list[str], weights: list[float], length: int) -> str:
    def thing() -> str:
        return "a " + " ".join(rng.choices(words, cum_weights=weights, k=rng.randint(2, 4)))

    sentences = [rng.choice(_OPENINGS).format(thing())]
    size = len(sentences[0].split())
    while size < length:
        joint = rng.choice(_JOINTS).format(thing())
        size += len(joint.split())
        if rng.random() < 0.4:
            sentences.append(joint[0].upper() + joint[1:])
        else:
            sentences[-1] += f", {joint}"
    return ". ".join(sentences) + "."


WORLD_CAPTIONS = (
    "The video shows one object on a dark plain background. We see how a large white cross moves to"
    " the right first, from the south to the southeast, then the cross turns and moves up, to the"
    " east.",
    "There are two objects, and the background is dark and checkered. We see how a small yellow"
    " triangle moves down, from the northeast to the southeast. Nothing about the triangle changes."
    " A small green square stays still in the northwest. It does not change.",
)
"""Captions of two clips of the rendered world, with 8 and 13 facts."""
