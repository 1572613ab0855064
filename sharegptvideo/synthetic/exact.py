"""Is an answer right? Decided from the clip's exact state, never from the caption."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sharegptvideo.synthetic.language import INVENTED
from sharegptvideo.synthetic.state import BACKGROUNDS, COLOURS, DIRECTIONS, SHAPES, SIZES

__all__ = ["claims", "is_right"]

_VALUES: dict[str, dict[str, str]] = {
    "colour": {word: word for word in COLOURS},
    "shape": {word: word for word in SHAPES},
    "size": {word: word for word in SIZES},
    "direction": {**{word: word for word in DIRECTIONS}, "still": "still"},
    "count": {"no objects": "zero", "one": "one", "two": "two", "three": "three"},
    "background": {word: word for word in BACKGROUNDS},
    "tone": {"dark": "dark", "light": "light"},
    "change": {
        "not change": "none",
        "grows": "grows",
        "shrinks": "shrinks",
        "disappears": "disappears",
        "appears": "appears",
    },
    "thing": {thing: thing for thing, _ in INVENTED.values()},
}
_PATTERNS = {
    attribute: re.compile(r"\b(" + "|".join(map(re.escape, words)) + r")\b")
    for attribute, words in _VALUES.items()
}


def claims(answer: str) -> dict[str, tuple[str, ...]]:
    """What an answer states, by attribute, in the order of the words.

    `polarity` is the leading yes or no; `thing` holds details that no clip shows.
    """
    text = answer.lower()
    found = {
        attribute: tuple(_VALUES[attribute][word] for word in pattern.findall(text))
        for attribute, pattern in _PATTERNS.items()
    }
    polarity = re.match(r"\W*(yes|no)\b", text)
    found["polarity"] = (polarity[1],) if polarity else ()
    return {attribute: values for attribute, values in found.items() if values}


def is_right(question: Mapping[str, Any], answer: str) -> bool:
    """Whether `answer` states what `question` (see `Question.as_dict`) expects and nothing false.

    Each expected attribute must be stated as one of its accepted sequences; every other
    value stated must be among the allowed ones. Repeats of a value in a row count once.
    """
    stated = claims(answer)
    expected: Mapping[str, Sequence[Sequence[str]]] = question["expected"]
    allowed: Mapping[str, Sequence[str]] = question["allowed"]
    for attribute, accepted in expected.items():
        if _merged(stated.get(attribute, ())) not in [tuple(values) for values in accepted]:
            return False
    return all(
        value in allowed.get(attribute, ())
        for attribute, values in stated.items()
        if attribute not in expected
        for value in values
    )


def _merged(values: Sequence[str]) -> tuple[str, ...]:
    return tuple(v for i, v in enumerate(values) if i == 0 or values[i - 1] != v)
