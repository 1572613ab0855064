"""`claim-match`: counts the claims of a description of a rendered clip, from texts alone.

A claim is a fact of the rendered world as `synthetic.facts` reads it: one value of one thing, such
as (ring, colour, red) or (scene, background, dotted); or a thing that the world has no word for, as
"dog" in "a dog runs after the ring". One of the description is supported where the reference states
the same fact, and one of the reference is covered where the description does. What is denied, and
where things are, is no claim. Captions of other clips need a language model: the words of the world
are nearly all that is read of them.
"""

from __future__ import annotations

from sharegptvideo.judges.base import Claims, JudgeItem, RulesJudge
from sharegptvideo.judges.rules.claims import unsupported
from sharegptvideo.judges.rules.lexicon import words
from sharegptvideo.judges.rules.text import EXCLUSIVE_SET, parse, stem
from sharegptvideo.synthetic.facts import caption_facts
from sharegptvideo.synthetic.state import BACKGROUNDS, SHAPES

__all__ = ["RULES_VERSION", "ClaimMatch"]

RULES_VERSION = 1
"""Raise it when tests/golden/claim_match.json changes."""

# Read as facts, or as places: no things that the world lacks.
_OF_THE_WORLD = frozenset(
    map(
        stem,
        (
            *SHAPES,
            *BACKGROUNDS,
            *words("light dark north south east west northeast northwest southeast southwest"),
        ),
    )
)


class ClaimMatch(RulesJudge):
    """The judge: counts of claims for every description."""

    name = "claim-match"
    version = RULES_VERSION
    scale = (0, 1)
    headline = "f1"

    def mark(self, item: JudgeItem) -> Claims:
        """Count the claims of a description, and those of its reference that it covers.

        Raises:
            ValueError: the reference states no fact of the rendered world.
        """
        expected = caption_facts(item.reference)
        if not expected:
            raise ValueError("the reference states no fact of the rendered world")
        claimed = caption_facts(item.prediction)
        shared = len(claimed & expected)
        more = len(_foreign(item.prediction, item.reference))
        return Claims(len(claimed) + more, shared, len(expected), shared)


def _foreign(description: str, reference: str) -> set[str]:
    """Return the stems of things named that are neither in the reference nor of the world."""
    nothing = parse("")
    named = unsupported(parse(description), reference, nothing, nothing).named
    # Of two words ("red square") the facts have it.
    stems = {stem(word) for word in named if " " not in word}
    return {root for root in stems - _OF_THE_WORLD if root not in EXCLUSIVE_SET}
