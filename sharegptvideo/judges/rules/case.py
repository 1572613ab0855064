"""One answer to judge, parsed: question, reference, prediction, caption, and the key words."""

from __future__ import annotations

from dataclasses import dataclass

from sharegptvideo.judges.rules.claims import GENERIC_STEMS, asked_sets
from sharegptvideo.judges.rules.text import EXCLUSIVE_SET, Text, kinds_of, near, parse

__all__ = ["Case", "akin", "make_case", "names_main_key", "recall", "reference_words"]

_LIGHT = frozenset({"up", "down", "out", "off", "away", "over", "under", "back", "around"})
_TIME_SETS = frozenset({"when", "rank", "sequence"})
_MINOR_SETS = frozenset({"color", "size", "number", "brightness", "length", "speed"})


@dataclass(frozen=True, slots=True)
class Case:
    """The texts parsed, the sets of values and the options that the question names, the keys."""

    question: Text
    reference: Text
    prediction: Text
    shown: Text | None
    asked: tuple[str, ...]
    options: frozenset[str]
    keys: frozenset[str]


def make_case(question: str, reference: str, prediction: str, caption: str | None) -> Case:
    """Parse the texts of one answer and find the reference's key words."""
    asked, expected = parse(question), parse(reference)
    options = _options(asked)
    return Case(
        asked,
        expected,
        parse(prediction),
        parse(caption) if caption else None,
        asked_sets(question),
        options,
        _keys(asked, expected, options),
    )


def _options(question: Text) -> frozenset[str]:
    """Return the stems that the question offers as alternatives: what differs around an "or"."""
    asked = question.tokens
    stems: set[str] = set()
    for token in asked:
        if token.word != "or":
            continue
        left = [t.stem for t in asked[: token.position] if t.content][-3:]
        right = [t.stem for t in asked[token.position + 1 :] if t.content][:3]
        if not left or not right:
            continue
        shared = set(left) & set(right)
        name = EXCLUSIVE_SET.get(right[0])
        pair = [s for s in left if name and EXCLUSIVE_SET.get(s) == name and s not in shared]
        if pair:
            stems |= {pair[-1], right[0]}
            continue
        stems |= {s for s in (left[-1], right[-1]) if s not in shared}
    return frozenset(stems)


def _keys(question: Text, reference: Text, options: frozenset[str]) -> frozenset[str]:
    new = reference.stems - question.stems
    keys = (new - GENERIC_STEMS) | (reference.stems & options)
    if any(EXCLUSIVE_SET.get(s) not in _TIME_SETS for s in keys):
        # "first", "at the end": `reversed_pair` compares them; beside others they are no answers.
        timeless = (s for s in keys if EXCLUSIVE_SET.get(s) not in _TIME_SETS or s in options)
        keys = frozenset(timeless)
    return frozenset(keys or new or reference.stems or {t.stem for t in reference.tokens})


def reference_words(case: Case, stems: frozenset[str]) -> str:
    """Return the reference's own words for some of its stems."""
    named = (t.word for t in case.reference.tokens if t.stem in stems)
    return " and ".join(dict.fromkeys(named))


def recall(case: Case, keys: frozenset[str]) -> tuple[float, str]:
    """Weighted share of `keys` stated, and a key that is only denied (or "")."""
    total = stated = 0  # whole numbers: sums that no order of adding changes
    denied = ""
    negated = {t.stem: t.negated for t in case.reference.tokens}
    said: dict[str, set[bool]] = {}
    for token in case.prediction.tokens:
        said.setdefault(token.stem, set()).add(token.negated)
    for key in sorted(keys):
        weight = _weight(key)
        total += 10 * weight
        signs = said.get(key)
        if signs is None:
            stated += weight * _kin(key, case.prediction)
        elif negated.get(key, False) in signs:
            stated += 10 * weight
        else:
            denied = next(t.word for t in case.prediction.tokens if t.stem == key)
    return (stated / total if total else 1.0), denied


def _weight(key: str) -> int:
    if key in _LIGHT or EXCLUSIVE_SET.get(key) in _MINOR_SETS:
        return 5
    return 3 if key in GENERIC_STEMS else 10


def _kin(key: str, prediction: Text) -> int:
    """Tenths to which a word that is not the key stands for it: a kind of it, or a near word."""
    for token in prediction.content:
        if not token.negated and (token.stem in kinds_of(key) or near(key, token.stem)):
            return 8
    return 0


def names_main_key(case: Case) -> bool:
    """Whether the prediction states a key of full weight and no content of its own."""
    said, known = case.prediction.stems, case.reference.stems | case.question.stems
    full = {key for key in case.keys & said if _weight(key) == 10}
    return bool(full) and said <= known | GENERIC_STEMS


def akin(stem: str, known: frozenset[str]) -> bool:
    """Whether a stem is near one of the known ones, or a kind of one."""
    return any(stem in kinds_of(other) or near(stem, other) for other in known)
