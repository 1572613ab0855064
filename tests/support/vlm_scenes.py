"""What the fake video model says: scenes made of a number, and JSON of any schema about them."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Scene", "code_of", "fill", "scene_in"]

_POOLS = [
    words.split()
    for words in (
        "dog cat horse child woman man dancer cyclist painter cook sailor farmer goat crane robot "
        "fox drummer skater tailor swimmer climber juggler baker gardener",
        "red blue green yellow white black orange purple brown pink grey silver",
        "runs jumps waits turns climbs rests sings digs bows stumbles crawls spins marches hides",
        "harbor meadow kitchen bridge station garden market stable library beach tunnel workshop "
        "stage orchard rooftop corridor courtyard valley",
        "ladder basket lantern umbrella violin bucket suitcase kite drum broom candle hammer rope "
        "teapot barrel bicycle",
        "bright soft dim grainy warm cold golden misty",
    )
]
_SUBJECTS, _, _VERBS, _PLACES, *_ = _POOLS
_CODE = re.compile(r"\b[0-9A-F]{10}\b")


def code_of(pictures: list[str]) -> str:
    """Return the number that the pictures of a clip stand for, ten hexadecimal digits."""
    return hashlib.sha256("\n".join(pictures).encode()).hexdigest()[:10].upper()


@dataclass(frozen=True)
class Scene:
    """What happens in the clip of a number; all its texts follow from that."""

    code: str

    def _drawn(self) -> tuple[list[str], ...]:
        draw = random.Random(self.code)
        return tuple(draw.sample(pool, 4) for pool in _POOLS)

    def caption(self) -> str:
        """A caption of five sentences in an order of time; it ends with the number."""
        subjects, colors, verbs, places, things, looks = self._drawn()
        return (
            f"At first a {colors[0]} {subjects[0]} {verbs[0]} in the {places[0]} beside a "
            f"{colors[1]} {things[0]}. Then a {subjects[1]} arrives with a {things[1]} and "
            f"{verbs[1]} near the {places[1]}. After a while the {subjects[0]} {verbs[2]} while "
            f"the {things[0]} falls over. Finally both leave for the {places[2]}. The light is "
            f"{looks[0]}, and a sign reads {self.code}."
        )

    def questions(self) -> list[tuple[str, str]]:
        """Questions about the caption, each with an answer that stands in it."""
        subjects, colors, verbs, places, things, _ = self._drawn()
        return [
            (f"What does the {subjects[0]} do at first?", f"The {subjects[0]} {verbs[0]}."),
            (f"What color is the {things[0]}?", colors[1].capitalize()),
            (f"Where does the {subjects[1]} arrive?", f"Near the {places[1]}."),
            (f"Who comes with the {things[1]}?", f"A {subjects[1]}."),
            ("Where do both go in the end?", f"To the {places[2]}."),
            ("What does the sign read?", self.code),
        ]

    def answer(self, question: str, seed: object) -> str:
        """One sentence about the clip, another one for another question or seed."""
        draw = random.Random(f"{self.code} {question} {seed}")
        subject, verb, place = (draw.choice(pool) for pool in (_SUBJECTS, _VERBS, _PLACES))
        return f"The {subject} {verb} in the {place} by the sign {self.code}."


def scene_in(text: str) -> Scene:
    """Return the scene whose number stands last in a text, else one of the whole text."""
    codes = _CODE.findall(text)
    return Scene(codes[-1] if codes else code_of([text]))


def fill(schema: dict[str, Any], scene: Scene) -> Any:
    """Return a value of a JSON schema; questions and answers in it are the scene's."""
    return _filled(schema, schema, "", iter(scene.questions()), scene)


def _filled(
    schema: dict[str, Any],
    root: dict[str, Any],
    name: str,
    pairs: Iterator[tuple[str, str]],
    scene: Scene,
) -> Any:
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    draw = random.Random(f"{scene.code} {name}")
    if "enum" in schema:
        return draw.choice(schema["enum"])
    if "const" in schema:
        return schema["const"]
    kind = schema.get("type", "string")
    if isinstance(kind, list):
        kind = kind[0]
    if kind == "object":
        properties = schema["properties"]
        pair = {}
        if {"question", "answer"} <= properties.keys():
            pair = dict(zip(("question", "answer"), next(pairs, ("", "")), strict=True))
        return {
            key: pair[key] if key in pair else _filled(value, root, key, pairs, scene)
            for key, value in properties.items()
        }
    if kind == "array":
        count = schema.get("minItems") or schema.get("maxItems") or 3
        return [_filled(schema["items"], root, f"{name}{n}", pairs, scene) for n in range(count)]
    if kind in {"integer", "number"}:
        return draw.randint(schema.get("minimum", 1), schema.get("maximum", 5))
    if kind == "boolean":
        return draw.random() < 0.5
    return scene.caption() if name == "caption" else f"As the sign {scene.code} has it."
