"""Captions of every subject, with the groups of words that the lexicon finds in them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from sharegptvideo.data.stats.lexicon import Group, built_in, matcher
from sharegptvideo.data.stats.tokens import tokenise

__all__ = ["lexicon"]

_CAPTIONS = [
    "A small red circle moves to the right across a dark striped background, then turns blue.",
    "The video begins with a close-up of a woman's face; finally the camera pans left.",
    "Two men in black suits shake hands in front of an office building while a crowd watches.",
    "In a bright kitchen, a chef slices onions, pours oil into a pan and stirs slowly.",
    'A sign reads "OPEN 24 HOURS", and below it “no parking” is written in white letters.',
    "He smiles happily, she looks surprised, and the children seem bored and tired.",
    "In 1995 about 300 people gathered in Paris; John and Maria spoke first.",
    "BREAKING NEWS: STORM HITS COAST",
    "Three dogs run on the beach at sunset, and one of them jumps over a wave twice.",
    "The scene cuts to an aerial shot of a forest covered with snow, in black and white.",
    "A young girl wearing a yellow raincoat holds an umbrella next to a parked car.",
    "There is no one in the room; the lights are off and the background is blurry.",
    "The mood is tense, perhaps because the team is about to lose the football match.",
    "An old man plays the guitar on a stage, the audience claps and a singer sings loudly.",
    "It might be winter, since the trees are bare and people appear to wear heavy coats.",
    "Right now he looks after the baby, named after its grandfather, once more.",
    "A cat sleeps on the sofa. Later it wakes up, stretches and walks away quickly.",
    "Text overlays and a logo in the corner show the channel's name, subtitles included.",
    "",
    "The truck is large, round wheels spin, smoke rises upward and metal parts fall down.",
]


def lexicon(_: Path) -> dict[str, Any]:
    """Marks by group, those of the lexicon's own examples included, and the words of each group."""
    words = {
        f"{aspect}.{name}": _words(group)
        for aspect, held in built_in().aspects.items()
        for name, group in held.groups.items()
    }
    examples = {
        sentence: None
        for aspect in built_in().aspects.values()
        for group in aspect.groups.values()
        for sentence in (*group.examples, *group.counterexamples)
    }
    texts = [*_CAPTIONS, *(text for text in examples if text not in _CAPTIONS)]
    names = [".".join(name) for name in matcher().names]
    return words | {
        text: {name: count for name, count in zip(names, counts, strict=True) if count}
        for text, counts in zip(
            texts, matcher().counts(tokenise(texts), texts).tolist(), strict=True
        )
    }


def _words(group: Group) -> str:
    """How many words and phrases, and a digest of them whatever their order."""
    told = [*map(sorted, (group.words, group.phrases, group.except_)), group.rule]
    digest = hashlib.sha256(repr(told).encode()).hexdigest()[:16]
    return f"{len(group.words)} words, {len(group.phrases)} phrases, {digest}"
