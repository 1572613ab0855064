"""A clip's facts one by one, and which facts a caption claims: precision, recall, retrieval.

A fact is one value of one thing: ("ring", "colour", "red"), ("ring", "then direction", "left"),
("scene", "background", "dotted"). Where objects are is no fact here: it is not read from captions,
and clips that differ in it alone do not come twice. What a caption denies claims no fact.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple

from sharegptvideo.synthetic.reading import read_answer
from sharegptvideo.synthetic.state import ClipState, ObjectState

__all__ = ["CaptionCheck", "Fact", "caption_facts", "check_caption", "clip_facts", "places"]

_NUMBERS = {1: "one", 2: "two"}
_CHANGES = {
    "none": "none",
    "grow": "grows",
    "shrink": "shrinks",
    "vanish": "disappears",
    "appear": "appears",
}
_OF_SCENE = ("count", "background", "tone")


class Fact(NamedTuple):
    """One value of one thing; `about` is a shape, a thing that no clip shows, or `scene`."""

    about: str
    attribute: str
    value: str


@dataclass(frozen=True, slots=True)
class CaptionCheck:
    """How many facts a caption claims, how many of these are true, and how many the clip has."""

    claimed: int
    true: int
    facts: int

    @property
    def precision(self) -> float:
        """Share of the claims that are true; 0 for a caption that claims nothing."""
        return self.true / self.claimed if self.claimed else 0.0

    @property
    def recall(self) -> float:
        """Share of the clip's facts that are claimed."""
        return self.true / self.facts

    @property
    def f1(self) -> float:
        """The harmonic mean of both."""
        return 2 * self.true / (self.claimed + self.facts)


def clip_facts(state: ClipState) -> frozenset[Fact]:
    """Return all facts of a clip: those that a full caption of it claims, and no other."""
    facts = [
        Fact("scene", "count", _NUMBERS[len(state.objects)]),
        Fact("scene", "background", state.background),
        Fact("scene", "tone", "dark" if state.dark else "light"),
    ]
    for item in state.objects:
        facts += _object_facts(item)
    return frozenset(facts)


def _object_facts(item: ObjectState) -> Iterable[Fact]:
    yield Fact(item.shape, "presence", "yes")
    yield Fact(item.shape, "colour", item.colour)
    yield Fact(item.shape, "size", item.size)
    yield Fact(item.shape, "direction", item.motion)
    if item.new_colour is not None:
        yield Fact(item.shape, "then colour", item.new_colour)
    elif item.new_motion is not None:
        yield Fact(item.shape, "then direction", item.new_motion)
    else:
        yield Fact(item.shape, "change", _CHANGES[item.change])


def caption_facts(caption: str) -> frozenset[Fact]:
    """Return the facts that a caption claims.

    Of several colours of one thing the first is its colour, and the last is what it turns to: where
    it is another one, or where a third is said ("a red ring ... turns from red to red"). Of several
    directions the last is the second way, unless all that is said is that it stays still.
    """
    reading = read_answer(caption)
    facts = {
        Fact(mention.noun, "presence", "yes")
        for mention in reading.mentions
        if mention.holds and mention.noun != "object"
    }
    said: dict[tuple[str, str], list[str]] = defaultdict(list)
    for claim in reading.claims:
        if not claim.holds or claim.attribute == "number":
            continue
        if claim.attribute in _OF_SCENE:
            facts.add(Fact("scene", claim.attribute, claim.value))
        elif claim.attribute in ("colour", "direction"):
            said[claim.subject or "scene", claim.attribute].append(claim.value)
        else:
            facts.add(Fact(claim.subject or "scene", claim.attribute, claim.value))
    for (about, attribute), values in said.items():
        facts.add(Fact(about, attribute, values[0]))
        enough = 3 if attribute == "colour" else 2
        again = len(values) >= enough and values[-1] != "still"
        if values[-1] != values[0] or again:
            facts.add(Fact(about, f"then {attribute}", values[-1]))
    return frozenset(facts)


def check_caption(claimed: Set[Fact], facts: Set[Fact]) -> CaptionCheck:
    """Compare what a caption claims with the facts of its clip."""
    return CaptionCheck(len(claimed), len(claimed & facts), len(facts))


def places(claimed: Set[Fact], own: int, pool: Sequence[Set[Fact]]) -> tuple[int, int]:
    """Rank the clips of a pool by how many of a caption's claims hold of them.

    Args:
        claimed: what the caption claims.
        own: the number of its clip in the pool.
        pool: the facts of each clip.

    Returns:
        How many clips stand above the caption's own, and how many beside it, itself included. The
        chance of finding it first (its part in R@1) is 1 / beside where none stands above, else 0.
    """
    hits = [len(claimed & facts) for facts in pool]
    return sum(n > hits[own] for n in hits), sum(n == hits[own] for n in hits)
