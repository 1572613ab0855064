"""Judges of captions made worse on purpose, so that the cost of a bad reward can be measured.

Two things can go wrong with a reward by captions: the judge gives a wrong verdict on a right
caption, or the caption leaves out or misstates what the clip shows. Both are done here at a rate,
by a seed, to a judge that is nearly always right (`answer-match` on the rendered world's captions).
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import Field

from sharegptvideo._strict import StrictModel
from sharegptvideo.errors import UserError
from sharegptvideo.judges import Judge, JudgeItem, Verdict
from sharegptvideo.judges.base import judge_items

__all__ = ["DegradedJudge", "RandomJudge", "Reward", "lie", "omit", "supported"]

Share = Field(default=0.0, ge=0, le=1)


class Reward(StrictModel):
    """Where a level's reward comes from.

    Attributes:
        by: `caption`: `answer-match` on captions; `state`: the clip's exact state; `random`: 1 or 5
            by the toss of a coin; `smollm2`: SmolLM2-135M, asked as any served judge is.
        right_to_wrong: share of the verdicts "right" that are turned to wrong.
        wrong_to_right: share of the verdicts "wrong" that are turned to right.
        caption: the clip's `own`, `another` clip's, or `none`. The reference stays.
        omit: share of the caption's sentences that are left out. A question whose reference says
            something that is then missing is not judged, as no one could have asked it.
        lie: share of the caption's kinds of facts (colour, direction, …) that are stated falsely,
            in the reference too, which is made from the caption.
        items: judge so many questions only, drawn by the seed; None: all.
        extended: give the verdicts on all questions at the rates of error that the judge has on
            those `items`, drawn by the seed from the exact states.
    """

    by: Literal["caption", "state", "random", "smollm2"] = "caption"
    right_to_wrong: float = Share
    wrong_to_right: float = Share
    caption: Literal["own", "another", "none"] = "own"
    omit: float = Share
    lie: float = Share
    items: int | None = Field(default=None, ge=1)
    extended: bool = False


# Of each kind one value excludes the others. Shapes name what a question is about: a caption that
# lies about them would be about another thing.
_KINDS: tuple[tuple[str, ...], ...] = (
    ("red", "green", "blue", "yellow", "purple", "white"),
    ("left", "right", "up", "down"),
    ("small", "large"),
    ("plain", "striped", "dotted", "checkered"),
    ("dark", "light"),
    ("grows", "shrinks"),
    ("appears", "disappears"),
    ("one", "two"),
)
_OTHERS = ("square", "ring", "triangle", "cross", "still", "turns", "change", "changes")
_VALUES = frozenset(word for kind in _KINDS for word in kind) | frozenset(_OTHERS)
_WORD = re.compile(r"[a-z]+", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_YES = re.compile(r"Yes, there is a (.+)\.")
_NO = re.compile(r"No, there is no (.+)\.")


def omit(caption: str, rate: float, draw: random.Random) -> str:
    """Leave out each sentence of a caption with probability `rate`; one stays in any case."""
    sentences = _SENTENCE.split(caption)
    kept = [sentence for sentence in sentences if draw.random() >= rate]
    return " ".join(kept or [draw.choice(sentences)])


def supported(reference: str, before: str, after: str) -> bool:
    """Return whether a caption still says what the reference does, if it ever did.

    A denial ("No, there is no lamp.") is supported by what a caption does not say. Words are
    compared, whichever object they are said of: of 6,000 questions of the world with 30 % omitted,
    25 count as supported by what is said of the other object.
    """
    if _NO.fullmatch(reference):
        return True
    values = _values(reference) & _values(before)
    return values <= _values(after)


def lie(caption: str, reference: str, rate: float, draw: random.Random) -> tuple[str, str]:
    """State each kind of fact falsely with probability `rate`, alike in caption and reference.

    A kind's values are exchanged for each other, none for itself: where every red thing is said to
    be blue, a thing that turns from red to blue is said to turn from blue to another colour. A
    reference that says whether something is there follows the false caption.
    """
    exchanged: dict[str, str] = {}
    for kind in _KINDS:
        if draw.random() < rate:
            shift = draw.randrange(1, len(kind))
            order = draw.sample(kind, len(kind))
            exchanged |= {
                word: order[(place + shift) % len(kind)] for place, word in enumerate(order)
            }
    false = _exchange(caption, exchanged)
    asked = _YES.fullmatch(reference) or _NO.fullmatch(reference)
    if asked:
        thing = asked.group(1)
        there = re.search(rf"\b{re.escape(thing)}\b", false) is not None
        return false, f"Yes, there is a {thing}." if there else f"No, there is no {thing}."
    return false, _exchange(reference, exchanged)


def _exchange(text: str, exchanged: Mapping[str, str]) -> str:
    return _WORD.sub(lambda word: exchanged.get(word.group(), word.group()), text)


def _values(text: str) -> set[str]:
    values = {word.lower() for word in _WORD.findall(text)} & _VALUES
    return {"change" if word == "changes" else word for word in values}


@dataclass(frozen=True, slots=True)
class _Edit:
    """What a judge is shown in place of an item; None where it cannot be asked."""

    item: JudgeItem | None


class DegradedJudge(Judge):
    """Another judge on worse captions, or with verdicts turned over; all drawn by seed and id."""

    name = "degraded"

    def __init__(
        self, inner: Judge, reward: Reward, seed: int, captions: Mapping[str, str]
    ) -> None:
        """Wrap a judge.

        Args:
            inner: the judge.
            reward: what is to be worse.
            seed: of all draws.
            captions: by clip; the caption of another clip is that of the one half of them
                further on, from the last to the first.

        Raises:
            UserError: another clip's caption is asked for, and there is one clip.
        """
        if reward.caption == "another" and len(captions) < 2:
            raise UserError("another clip's caption needs two clips at least", exit_code=1)
        self._inner, self._reward, self._seed = inner, reward, seed
        clips = list(captions)
        self._another = {
            clip: captions[clips[(place + len(clips) // 2) % len(clips)]]
            for place, clip in enumerate(clips)
        }

    def describe(self) -> dict[str, Any]:
        """Return the judge, and what is worse than it."""
        return {
            "name": self.name,
            "kind": "study",
            "of": self._inner.describe(),
            "reward": self._reward.model_dump(mode="json"),
            "seed": self._seed,
        }

    def check(self) -> None:
        """Check the judge itself."""
        self._inner.check()

    def judge(self, items: Sequence[JudgeItem]) -> Iterator[Verdict]:
        """Yield one verdict an item; unscored where the caption leaves out what is asked."""
        shown = {item.id: self._shown(item) for item in items}
        for item in items:
            if shown[item.id].item is None:
                reason = "the caption leaves out what is asked"
                yield Verdict(item.id, "unscored", reason=reason, reply="", judge=self.describe())
        asked = [edit.item for edit in shown.values() if edit.item is not None]
        for _, verdict in judge_items(self._inner, asked):
            yield self._turned(verdict)

    def _shown(self, item: JudgeItem) -> _Edit:
        reward = self._reward
        caption, reference = item.caption or "", item.reference
        if reward.caption != "own":
            caption = self._another[item.video] if reward.caption == "another" else ""
        draw = random.Random(f"{self._seed}/{item.video}")  # one caption for all of its questions
        if reward.lie:
            caption, reference = lie(caption, reference, reward.lie, draw)
        if reward.omit:
            before, caption = caption, omit(caption, reward.omit, draw)
            if not supported(reference, before, caption):
                return _Edit(None)
        return _Edit(replace(item, caption=caption or None, reference=reference))

    def _turned(self, verdict: Verdict) -> Verdict:
        if verdict.status != "scored":
            return verdict
        rate = self._reward.right_to_wrong if verdict.correct else self._reward.wrong_to_right
        if random.Random(f"{self._seed}/{verdict.id}").random() >= rate:
            return verdict
        correct = not verdict.correct
        low, high = self._inner.scale
        reason = f"turned over; was: {verdict.reason}"
        return replace(
            verdict, correct=correct, score=float(high if correct else low), reason=reason
        )


class RandomJudge(Judge):
    """Score 1 or 5 by the toss of a coin, whatever the answer."""

    name = "random"

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def describe(self) -> dict[str, Any]:
        """Return name and seed."""
        return {"name": self.name, "kind": "study", "seed": self._seed}

    def check(self) -> None:
        """Do nothing: it needs nothing."""

    def judge(self, items: Sequence[JudgeItem]) -> Iterator[Verdict]:
        """Yield one verdict an item."""
        for item in items:
            right = random.Random(f"{self._seed}/{item.id}").random() < 0.5
            yield Verdict(
                item.id,
                "scored",
                correct=right,
                score=5.0 if right else 1.0,
                reason="by the toss of a coin",
                judge=self.describe(),
            )
