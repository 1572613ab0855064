"""What a text claims: values, what comes before what, and details that a caption does not show.

A value is a word of one of the sets in `lexicon.EXCLUSIVE` (colours, numbers, directions ...): the
words of a set shut each other out.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sharegptvideo.judges.rules import lexicon
from sharegptvideo.judges.rules.lexicon import words
from sharegptvideo.judges.rules.text import EXCLUSIVE_SET, Text, Token, kinds_of, near, parse, stem

__all__ = [
    "GENERIC_STEMS",
    "Comparison",
    "Unsupported",
    "asked_sets",
    "compare_values",
    "mentions_order",
    "reversed_pair",
    "unsupported",
]

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


def asked_sets(question: str) -> tuple[str, ...]:
    """Return the sets of values that a question asks for by its wording."""
    lowered = question.lower()
    return tuple(name for pattern, names in _ASKED if pattern.search(lowered) for name in names)


def groups_of(text: Text, name: str) -> list[list[Token]]:
    """Return the affirmed values of a set, those joined by "and", "or" or a comma in one group."""
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
    """Return the noun that an attribute stands before, if a determiner opens the phrase."""
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
    """Return the groups that stand in the clause which repeats most of the question."""
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
    offer = " and ".join(dict.fromkeys(t.word for g in groups for t in g))
    if not groups:
        return Comparison("missing")
    union = set().union(*said)
    if union == wanted:
        return Comparison("several" if _hedged(groups, prediction, wanted) else "same", offer)
    if union < wanted:
        return Comparison("partial", offer)
    offered = [g for g in groups if not _beside_the_point(g, wanted, prediction, question, caption)]
    if len(offered) > 1:
        offered = _focus(offered, prediction, question)
    if len(offered) > 1 and {t.stem for t in offered[0]} <= wanted and name != "color":
        offered = offered[:1]
    chosen = {t.stem for g in offered for t in g}
    offer = " and ".join(dict.fromkeys(t.word for g in offered for t in g))
    if chosen == wanted:
        return Comparison("same", offer)
    if not chosen:
        return Comparison("missing")
    if chosen < wanted:
        return Comparison("partial", offer)
    return Comparison("several" if chosen > wanted else "other", offer)


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


_CUES = frozenset(
    words(
        "first then before after finally later afterwards afterward next last followed order "
        "sequence until initially subsequently earlier"
    )
)
_EARLY = frozenset(map(stem, ["first", "start", "initially", "earlier"]))
_MIDDLE = frozenset(map(stem, ["halfway"]))
_LATE = frozenset(map(stem, ["end", "finally", "later", "last", "afterwards", "afterward"]))


def mentions_order(*texts: Text) -> bool:
    """Whether any of the texts speaks of order in time."""
    return any(token.word in _CUES for text in texts for token in text.tokens)


def _segments(text: Text) -> list[tuple[str, list[Token]]]:
    """Cut a text at clause ends and at "before" and "after", into (opening word, tokens)."""
    segments: list[tuple[str, list[Token]]] = []
    clause = -1
    for token in text.tokens:
        if token.word in {"before", "after"}:
            segments.append((token.word, []))
            clause = token.clause
            continue
        if token.clause != clause or not segments:
            segments.append(("", []))
            clause = token.clause
        segments[-1][1].append(token)
    return segments


def _in_time(text: Text) -> list[list[Token]]:
    """Return the segments of a text in the order in which they happen."""
    segments = _segments(text)
    ordered: list[list[Token]] = []
    early: list[Token] | None = None  # of a sentence that opens with "before": what comes second
    for opener, tokens in segments:
        opens_sentence = not ordered or (
            bool(ordered[-1] and tokens) and ordered[-1][-1].sentence != tokens[0].sentence
        )
        if opener == "before" and opens_sentence:
            early = tokens
        elif opener == "after" and not opens_sentence:
            ordered.insert(len(ordered) - 1, tokens)
        else:
            ordered.append(tokens)
            if early is not None:
                ordered.append(early)
                early = None
    if early is not None:
        ordered.append(early)
    return _by_phase(ordered)


def _by_phase(segments: list[list[Token]]) -> list[list[Token]]:
    ranked: list[tuple[int, list[Token]]] = []
    rank = 0
    for tokens in segments:
        stems = {token.stem for token in tokens}
        if stems & _EARLY:
            rank = 0
        elif stems & _LATE:
            rank = 2
        elif stems & _MIDDLE:
            rank = 1
        ranked.append((rank, tokens))
    return [tokens for _, tokens in sorted(ranked, key=lambda pair: pair[0])]


def reversed_pair(
    reference: Text, prediction: Text, keys: frozenset[str]
) -> tuple[str, str] | bool | None:
    """Compare the order of the `keys` (stems) that both texts name once, in separate clauses.

    Returns the first pair that is the wrong way round, as the prediction words it (earlier, later);
    False if all pairs agree; None if there is no pair to compare.
    """
    places = [_places(text, keys) for text in (reference, prediction)]
    # By stem within a clause: a set's order changes from process to process.
    common = sorted(places[0].keys() & places[1].keys(), key=lambda s: (places[0][s][0], s))
    compared = False
    for position, first in enumerate(common):
        for second in common[position + 1 :]:
            (a, _), (b, _) = places[0][first], places[0][second]
            (x, x_word), (y, y_word) = places[1][first], places[1][second]
            if a == b or x == y:
                continue
            compared = True
            if x > y:
                return y_word, x_word
    return False if compared else None


def _places(text: Text, keys: frozenset[str]) -> dict[str, tuple[int, str]]:
    places: dict[str, tuple[int, str]] = {}
    repeated: set[str] = set()
    for place, tokens in enumerate(_in_time(text)):
        for token in tokens:
            if token.stem in keys and not token.negated:
                if token.stem in places:
                    repeated.add(token.stem)
                places[token.stem] = (place, token.word)
    return {key: value for key, value in places.items() if key not in repeated}


GENERIC_STEMS = frozenset(map(stem, lexicon.GENERIC))
_OPENERS = frozenset(
    words("""
    a an the its his her their our my your some several many few another more each every any
    with of in on near by behind beside under above between against inside outside
    like wearing holding
    """)
)
_PRONOUNS = frozenset({"it", "they", "he", "she", "them", "him", "her"})
_RELATIONS = frozenset(
    map(
        stem,
        words("""
        near next behind beside between front around close away along side together alone
        out off back toward opposite across past far still again once continuously
        steadily gradually slowly gently smoothly simply clearly likely probably also
        straight same different whole both several many few lot various other
        begin end first last halfway before after finally later afterwards
        """),
    )
)


@dataclass(frozen=True, slots=True)
class Unsupported:
    """What the caption does not show: things and attributes (`named`), other words (`loose`)."""

    named: tuple[str, ...]
    loose: tuple[str, ...]


def unsupported(prediction: Text, caption: str, question: Text, reference: Text) -> Unsupported:
    """Find the content words of `prediction` that caption, question and reference lack.

    A word counts as named if it stands as a thing ("a small dog", "with trees"), or is a colour,
    or contradicts the caption's only value of its kind; denied words ("no dog") claim nothing.
    """
    shown = parse(caption)
    known = shown.stems | question.stems | reference.stems
    named: list[str] = []
    loose: list[str] = []
    missing = {t.position for t in prediction.content if not t.negated and _is_new(t, known)}
    for token in prediction.content:
        if token.position not in missing:
            continue
        if _is_named(token, prediction, missing, shown):
            named.append(token.word)
        else:
            loose.append(token.word)
    named += _misattributed(prediction, shown, question, reference)
    return Unsupported(tuple(dict.fromkeys(named)), tuple(dict.fromkeys(loose)))


def _is_new(token: Token, known: frozenset[str]) -> bool:
    if token.stem in known or token.stem in GENERIC_STEMS or token.stem in _RELATIONS:
        return False
    return not _related(token.stem, known)


@functools.lru_cache(maxsize=65536)
def _related(word: str, known: frozenset[str]) -> bool:
    """Whether a known word is nearly this one, or a kind of it ("animal" where a dog is shown)."""
    return bool(kinds_of(word) & known) or any(near(word, other) for other in known)


def _is_named(token: Token, text: Text, missing: set[int], shown: Text) -> bool:
    name = EXCLUSIVE_SET.get(token.stem)
    if name == "color":
        return True
    if name is not None and name not in {"shape", "sex", "youth"}:
        # "to the left" where the caption only ever says "right" contradicts it.
        return name != "number" and any(EXCLUSIVE_SET.get(s) == name for s in shown.stems)
    back = token.position - 1
    while back >= 0 and (back in missing or _is_quality(text.tokens[back])):
        back -= 1
    if back < 0 or text.tokens[back].sentence != token.sentence:
        return False
    opener = text.tokens[back]
    if opener.word in {"is", "are"} and back and text.tokens[back - 1].word == "there":
        return True
    if opener.clause != token.clause:
        # ", fence.": a word alone between marks is a thing, unless it ends like a verb.
        return not token.word.endswith(("s", "ing", "ed", "ly"))
    return opener.word in _OPENERS or EXCLUSIVE_SET.get(opener.stem) == "number"


def _is_quality(token: Token) -> bool:
    return EXCLUSIVE_SET.get(token.stem) in {"color", "size", "brightness", "length", "speed"}


def _misattributed(
    prediction: Text, shown: Text, question: Text, reference: Text
) -> list[str]:  # fmt: skip
    """Attributes given to a thing that has another one in the caption ("a red square")."""
    claimed, _ = attributed(prediction)
    if not claimed:
        return []
    heads, free = attributed(shown)
    others = [attributed(text)[0] for text in (question, reference)]
    claims: list[str] = []
    for value, things in claimed.items():
        name = EXCLUSIVE_SET[value]
        if name not in {"color", "size"} or not (value in heads or value in free):
            continue
        for thing in things - heads.get(value, set()):
            if any(thing in other.get(value, ()) for other in others):
                continue
            company = free.get(value, set())
            if thing in company or company & _PRONOUNS:
                continue  # "the square turns blue": a blue square; "it turns blue": who knows
            rivals = (v for v, known in heads.items() if thing in known and v != value)
            if any(EXCLUSIVE_SET[v] == name for v in rivals):
                claims.append(f"{_word(prediction, value)} {_word(prediction, thing)}")
    return claims


def _word(text: Text, root: str) -> str:
    return next(token.word for token in text.tokens if token.stem == root)
