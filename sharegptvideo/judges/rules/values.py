"""Values that shut each other out: what the reference says and what the prediction says.

A value is a word of one of the sets in `lexicon.EXCLUSIVE` (colours, numbers, directions ...).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sharegptvideo.judges.rules.lexicon import words
from sharegptvideo.judges.rules.normalise import EXCLUSIVE_SET, Text, Token

__all__ = ["Comparison", "asked_sets", "attributed", "compare_values", "groups_of"]

Outcome = Literal["same", "partial", "missing", "other", "several"]

_ASKED = (
    (re.compile(r"\bcolou?rs?\b"), ("color",)),
    (re.compile(r"\bhow many\b|\bnumber of\b"), ("number",)),
    (re.compile(r"\b(?:which|what) (?:way|direction)\b|\bwhere\b.*\b(?:mov|go|head|travel)"),
     ("direction", "depth", "turning")),
    (re.compile(r"\b(?:what|which) shape"), ("shape",)),
    (re.compile(r"\b(?:what|which) size|\bhow (?:big|large|small)\b"), ("size",)),
    (re.compile(r"\bwhen\b"), ("when", "sequence")),
)  # fmt: skip
_JOINTS = frozenset({"and", "or", "then", "to", "the"})
_ATTRIBUTES = frozenset({"color", "size", "number", "brightness", "length", "speed", "line"})
_DETERMINERS = frozenset(
    words("a an the its his her their some several many another one two three four this that")
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """How the prediction's values of one set stand to the reference's."""

    outcome: Outcome
    said: str = ""
    wanted: str = ""


def asked_sets(question: str) -> tuple[str, ...]:
    """The sets of values that a question asks for by its wording."""
    lowered = question.lower()
    return tuple(name for pattern, names in _ASKED if pattern.search(lowered) for name in names)


def groups_of(text: Text, name: str) -> list[list[Token]]:
    """The affirmed values of one set, those joined by "and", "or" or a comma in one group."""
    groups: list[list[Token]] = []
    last = -10
    for token in text.tokens:
        if EXCLUSIVE_SET.get(token.stem) != name or token.negated:
            continue
        between = text.tokens[last + 1 : token.position] if last >= 0 else ()
        joined = last >= 0 and all(t.word in _JOINTS for t in between)
        if joined and text.tokens[last].sentence == token.sentence:
            groups[-1].append(token)
        else:
            groups.append([token])
        last = token.position
    return groups


def attributed(text: Text) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Which thing each attribute stands before, and the company of those that stand free.

    Returns ({attribute stem: {head stems}} as in "a red square", {attribute stem: {stems of its
    sentence}} as in "the square turns blue").
    """
    heads: dict[str, set[str]] = {}
    free: dict[str, set[str]] = {}
    for token in text.tokens:
        if EXCLUSIVE_SET.get(token.stem) not in _ATTRIBUTES:
            continue
        head = _head(text.tokens, token.position)
        if head is None:
            company = {t.stem for t in text.tokens if t.sentence == token.sentence}
            free.setdefault(token.stem, set()).update(company)
        else:
            heads.setdefault(token.stem, set()).add(head)
    return heads, free


def _head(tokens: Sequence[Token], index: int) -> str | None:
    """The noun that an attribute stands before, if a determiner opens the phrase."""
    start = index - 1
    while start >= 0 and _is_attribute(tokens[start]):
        start -= 1
    opened = start >= 0 and tokens[start].word in _DETERMINERS
    opened = opened or (start >= 0 and _is_number(tokens[start + 1]))
    if not opened:
        return None
    end = index + 1
    while end < len(tokens) and _is_attribute(tokens[end]):
        end += 1
    if end < len(tokens) and tokens[end].content and tokens[end].clause == tokens[index].clause:
        return tokens[end].stem
    return None


def _is_attribute(token: Token) -> bool:
    return EXCLUSIVE_SET.get(token.stem) in _ATTRIBUTES


def _is_number(token: Token) -> bool:
    return EXCLUSIVE_SET.get(token.stem) == "number"


def _focus(groups: list[list[Token]], text: Text, question: Text) -> list[list[Token]]:
    """The groups that stand in the clause which repeats most of the question."""
    shared: dict[int, set[str]] = {}
    for token in text.content:
        if token.stem in question.stems:
            shared.setdefault(token.clause, set()).add(token.stem)
    scores = [max(len(shared.get(t.clause, ())) for t in group) for group in groups]
    best = max(scores)
    return [group for group, score in zip(groups, scores, strict=True) if score == best]


def compare_values(
    name: str,
    wanted: frozenset[str],
    prediction: Text,
    question: Text,
    caption: Text | None,
) -> Comparison:
    """Compare the prediction's values of set `name` with the `wanted` ones (stems, not empty).

    Values that only repeat the question, or that describe another thing as the caption does ("next
    to a green square"), are not offered as the answer.
    """
    groups = groups_of(prediction, name)
    repeats = frozenset(s for s in question.stems if EXCLUSIVE_SET.get(s) == name) - wanted
    groups = [g for g in groups if not {t.stem for t in g} <= repeats]
    if name == "number" and len(groups) > 1:
        # "two objects, one red and one blue": "one" points, it does not count.
        groups = [g for g in groups if {t.word for t in g} != {"one"}] or groups
    said = [{t.stem for t in g} for g in groups]
    told = " and ".join(dict.fromkeys(t.word for g in groups for t in g))
    if not groups:
        return Comparison("missing")
    union = set().union(*said)
    if union == wanted:
        return Comparison("several" if _hedged(groups, prediction, wanted) else "same", told)
    if union < wanted:
        return Comparison("partial", told)
    offered = [g for g in groups if not _beside_the_point(g, wanted, prediction, question, caption)]
    if len(offered) > 1:
        offered = _focus(offered, prediction, question)
    if len(offered) > 1 and {t.stem for t in offered[0]} <= wanted and name != "color":
        offered = offered[:1]
    chosen = {t.stem for g in offered for t in g}
    told = " and ".join(dict.fromkeys(t.word for g in offered for t in g))
    if chosen == wanted:
        return Comparison("same", told)
    if not chosen:
        return Comparison("missing")
    if chosen < wanted:
        return Comparison("partial", told)
    return Comparison("several" if chosen > wanted else "other", told)


def _hedged(groups: list[list[Token]], prediction: Text, wanted: frozenset[str]) -> bool:
    if len(wanted) < 2:
        return False
    first, last = groups[0][0].position, groups[-1][-1].position
    return any(t.word == "or" for t in prediction.tokens[first:last])


def _beside_the_point(
    group: list[Token], wanted: frozenset[str], prediction: Text, question: Text,
    caption: Text | None,
) -> bool:  # fmt: skip
    """Whether a group describes another thing than the one asked about, as the caption does."""
    if caption is None or {t.stem for t in group} & wanted:
        return False
    known, _ = attributed(caption)
    heads = [_head(prediction.tokens, t.position) for t in group]
    return all(
        head is not None and head not in question.stems and head in known.get(token.stem, ())
        for head, token in zip(heads, group, strict=True)
    )
