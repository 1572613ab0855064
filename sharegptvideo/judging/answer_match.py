"""`answer-match`: a deterministic judge that scores an answer 1–5 from texts alone.

It stands for the language model that gives the reward: it reads question, reference, prediction and
(where there is one) the caption, never the frames. Rules, in the order in which they are tried:

| rule | when | score |
| --- | --- | --- |
| silent | no word in the prediction | 1 |
| same | equal to the reference but for case, punctuation, articles, number words | 5 |
| polarity | the reference says yes (no), the prediction no (yes), or neither | 1 |
| self-contradiction | "No, there is a dog.", "Yes, there is no dog." | 1 |
| other denial | "No, there is no cat." where a dog was asked about | 2 |
| value | the question asks for a value (colour, count ...) and gets another, or none | 1 |
| hedge | several answers offered where the reference gives one ("red or blue") | 2 |
| part | only a part of an asked value ("white" for "pink and white") | 2 |
| order | two things told in the wrong order | 2 |
| recall | share of the reference's key words stated: all, ⅔, ⅖, some, none | 5, 4, 3, 2, 1 |
| denied | a key word stated only under "not" or "no" | 1 |
| detail | right, but names a thing or colour that the caption does not show | 2 |
| loose words | right, with 1, 2, 3 other words that the caption does not support | 4, 3, 2 |
| babble | right, but the answer is lost among other words, or repeats itself | 2 or 3 |

Key words are the content words of the reference that the question does not give away; where the
question offers alternatives ("the circle or the square?") they are keys too. Stems, number words
and a small table of synonyms count as equal; a kind of the reference's word ("dog" for "animal") or
a near word ("girl" for "woman") counts for less. A right but bare "Yes." gets 4. Score 3 and above
is acceptable. Text that addresses the judge is text like any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharegptvideo.judging.base import JudgeItem, Verdict
from sharegptvideo.judging.details import GENERIC_STEMS, unsupported
from sharegptvideo.judging.lexicon import words
from sharegptvideo.judging.normalise import EXCLUSIVE_SET, Text, Token, kinds_of, near, parse, plain
from sharegptvideo.judging.order import reversed_pair, tells_order
from sharegptvideo.judging.values import Comparison, asked_sets, compare_values
from sharegptvideo.storage import sha256_text

__all__ = ["ACCEPTABLE", "AnswerMatch", "Mark", "mark"]

VERSION = 1
ACCEPTABLE = 3

_YES = frozenset({"yes", "yeah", "yep", "correct", "true"})
_NO = frozenset({"no", "nope", "false"})
_AUXILIARIES = frozenset(
    words("is are was were am do does did has have had can could will would should may might")
)
_DENIALS = frozenset({"not", "no", "never", "none", "nothing", "nobody", "without", "neither"})
_LIGHT = frozenset({"up", "down", "out", "off", "away", "over", "under", "back", "around"})
_TIME_SETS = frozenset({"when", "rank", "sequence"})
_MINOR_SETS = frozenset({"color", "size", "number", "brightness", "length", "speed"})


@dataclass(frozen=True, slots=True)
class Mark:
    """A score from 1 to 5 and one short sentence that says why."""

    score: int
    reason: str


@dataclass(frozen=True, slots=True)
class _Case:
    question: Text
    reference: Text
    prediction: Text
    shown: Text | None
    asked: tuple[str, ...]
    options: frozenset[str]
    keys: frozenset[str]


def mark(question: str, reference: str, prediction: str, caption: str | None = None) -> Mark:
    """Score one answer by the rules above.

    Raises:
        ValueError: the reference has no words.
    """
    told, said = parse(reference), parse(prediction)
    if not told.tokens:
        raise ValueError("the reference answer has no words")
    if not said.tokens:
        return Mark(1, "says nothing")
    if plain(reference) == plain(prediction):
        return Mark(5, "says the same as the reference")
    asked = parse(question)
    options = _options(asked)
    shown = parse(caption) if caption else None
    keys = _keys(asked, told, options)
    case = _Case(asked, told, said, shown, asked_sets(question), options, keys)
    wanted = _polarity_of_reference(case)
    found = _judge_statement(case) if wanted is None else _judge_polar(case, wanted)
    if found.score < ACCEPTABLE:
        return found
    return _dampen(found, case, caption)


def _options(question: Text) -> frozenset[str]:
    """The stems that the question offers as alternatives: those that differ around an "or"."""
    asked = question.tokens
    found: set[str] = set()
    for token in asked:
        if token.word != "or":
            continue
        left = [t.stem for t in asked[: token.index] if t.content][-3:]
        right = [t.stem for t in asked[token.index + 1 :] if t.content][:3]
        if not left or not right:
            continue
        shared = set(left) & set(right)
        name = EXCLUSIVE_SET.get(right[0])
        pair = [s for s in left if name and EXCLUSIVE_SET.get(s) == name and s not in shared]
        if pair:
            found |= {pair[-1], right[0]}
            continue
        found |= {s for s in (left[-1], right[-1]) if s not in shared}
    return frozenset(found)


def _keys(question: Text, reference: Text, options: frozenset[str]) -> frozenset[str]:
    new = reference.stems - question.stems
    keys = (new - GENERIC_STEMS) | (reference.stems & options)
    if any(EXCLUSIVE_SET.get(s) not in _TIME_SETS for s in keys):
        # "first", "at the end": told by `order`, not answers of their own beside others.
        keys = {s for s in keys if EXCLUSIVE_SET.get(s) not in _TIME_SETS or s in options}
    return frozenset(keys or new or reference.stems or {t.stem for t in reference.tokens})


def _lead(text: Text) -> bool | None:
    word = text.tokens[0].word
    return True if word in _YES else False if word in _NO else None


def _denies(text: Text) -> bool:
    return any(t.word in _DENIALS or t.stem == "0" for t in text.tokens)


def _polarity_of_reference(case: _Case) -> bool | None:
    """Whether the reference says yes or no to the question; None if it answers otherwise."""
    lead = _lead(case.reference)
    first = case.question.tokens[0].word if case.question.tokens else ""
    if case.options or (lead is None and first not in _AUXILIARIES):
        return None
    if lead is not None:
        return lead if first in _AUXILIARIES or len(case.reference.tokens) == 1 else None
    return not _denies(case.reference)


def _judge_polar(case: _Case, wanted: bool) -> Mark:
    said = _polarity_of_prediction(case, wanted)
    word = {True: "yes", False: "no"}
    if said is None:
        return Mark(1, f'says neither yes nor no; the reference says "{word[wanted]}"')
    if said != wanted:
        return Mark(1, f'says "{word[said]}" where the reference says "{word[wanted]}"')
    if _contradicts_itself(case.prediction, case.question):
        return Mark(1, "contradicts itself")
    fault = _denies_another(case) or _clash(case)
    if fault is not None:
        return fault
    keys = case.keys - case.question.stems - {"yes", "no"}
    stated, _ = _recall(case, keys)
    if len(case.prediction.content) == 0 and len(case.reference.content) > 0:
        return Mark(4, f'says "{word[said]}" as the reference does, no more')
    if stated >= 0.99:
        return Mark(5, f'says "{word[said]}" as the reference does')
    return Mark(4, f'says "{word[said]}" as the reference does, with less detail')


def _denies_another(case: _Case) -> Mark | None:
    """Denying something else than what was asked about answers another question."""
    told = case.question.stems | case.reference.stems | GENERIC_STEMS
    for token in case.prediction.content:
        if token.negated and token.stem not in told and not _akin(token.stem, told):
            return Mark(2, f'denies "{token.word}", which was not asked about')
    return None


def _polarity_of_prediction(case: _Case, wanted: bool) -> bool | None:
    lead = _lead(case.prediction)
    if lead is not None:
        return lead
    if _denies(case.prediction):
        return False
    keys = case.keys - case.question.stems
    if keys and _recall(case, keys)[0] > 0.5:
        return wanted
    if any(_opposes(case.prediction, case.question)):
        return False
    shared = case.prediction.stems & (case.question.stems - GENERIC_STEMS)
    return True if shared else None


def _opposes(prediction: Text, question: Text) -> Iterator[str]:
    """Values of the prediction that shut out one of the question's, itself not stated."""
    for token in prediction.content:
        name = EXCLUSIVE_SET.get(token.stem)
        if name is None or token.stem in question.stems:
            continue
        rivals = {s for s in question.stems if EXCLUSIVE_SET.get(s) == name}
        if rivals and not rivals & prediction.stems:
            yield token.word


def _contradicts_itself(prediction: Text, question: Text) -> bool:
    """A leading yes or no against a rest that only repeats the question with the other polarity."""
    lead = _lead(prediction)
    rest = prediction.tokens[1:]
    content = {t.stem for t in rest if t.content}
    if lead is None or not content or not content <= question.stems | GENERIC_STEMS:
        return False
    if not content & (question.stems - GENERIC_STEMS):
        return False
    denied = any(t.word in _DENIALS for t in rest)
    asked_denied = any(t.word in _DENIALS for t in question.tokens)
    return denied == lead and not asked_denied


def _clash(case: _Case) -> Mark | None:
    """A value of the reference that the prediction replaces by another of its set."""
    ordered = reversed_pair(case.reference, case.prediction, case.reference.stems)
    affirmed = {t.stem for t in case.reference.content if not t.negated}
    for name in sorted({EXCLUSIVE_SET[s] for s in affirmed if s in EXCLUSIVE_SET}):
        if name == "sequence" and ordered is not None:
            continue
        wanted = frozenset(s for s in affirmed if EXCLUSIVE_SET.get(s) == name)
        found = compare_values(name, wanted, case.prediction, case.question, case.shown)
        if found.outcome == "other":
            return Mark(2, f'says "{found.said}" where the reference says "{_names(case, wanted)}"')
    return None


def _names(case: _Case, stems: frozenset[str]) -> str:
    named = (t.word for t in case.reference.tokens if t.stem in stems)
    return " and ".join(dict.fromkeys(named))


def _judge_statement(case: _Case) -> Mark:
    """Judge an answer that is not a yes or no."""
    if tells_order(case.question, case.reference):
        turned = reversed_pair(case.reference, case.prediction, case.reference.stems)
        if isinstance(turned, tuple):
            return Mark(2, f'tells "{turned[0]}" before "{turned[1]}", against the reference')
    fault, answered = _judge_asked(case)
    if fault is not None:
        return fault
    fault = _hedge(case) or _clash(case)
    if fault is not None:
        return fault
    stated, denied = _recall(case, case.keys)
    if denied:
        return Mark(1, f'denies "{denied}", which the reference states')
    if answered:
        return Mark(5 if stated >= 0.99 else 4, "gives the value of the reference")
    return _by_recall(case, stated)


def _by_recall(case: _Case, stated: float) -> Mark:
    missing = [t.word for t in case.reference.content if t.stem in case.keys]
    missing = [w for w in dict.fromkeys(missing) if not _recall(case, parse(w).stems)[0]]
    lack = " and ".join(f'"{word}"' for word in missing[:3]) or "the reference's words"
    if stated >= 0.99:
        return Mark(5, "states what the reference states")
    if stated >= 0.66:
        return Mark(4, f"states most of the reference, not {lack}" if missing else
                    "states nearly what the reference states")  # fmt: skip
    if stated >= 0.4:
        return Mark(3, f"states a part of the reference, not {lack}")
    if stated > 0:
        return Mark(2, f"states little of the reference, not {lack}")
    return Mark(1, f"does not state {lack}")


def _judge_asked(case: _Case) -> tuple[Mark | None, bool]:
    """Compare the values that the question asks for; (fault, whether any was answered)."""
    answered = False
    chosen = {EXCLUSIVE_SET.get(s, "") for s in case.options & case.reference.stems} - {""}
    values = {EXCLUSIVE_SET[s] for s in case.keys if s in EXCLUSIVE_SET}
    only = values if len(values) == 1 and all(s in EXCLUSIVE_SET for s in case.keys) else set()
    for name in sorted(set(case.asked) & values | chosen | only):
        wanted = frozenset(s for s in case.keys if EXCLUSIVE_SET.get(s) == name)
        if not wanted:
            continue
        found = _compare(case, name, wanted)
        if found.outcome == "same":
            answered = True
            continue
        return _fault(case, found, wanted), False
    return None, answered


def _compare(case: _Case, name: str, wanted: frozenset[str]) -> Comparison:
    chosen = case.options & wanted
    if chosen and chosen == wanted:
        return _compare_option(case, wanted)
    return compare_values(name, wanted, case.prediction, case.question, case.shown)


def _compare_option(case: _Case, wanted: frozenset[str]) -> Comparison:
    """The first of the question's alternatives that the prediction affirms is its answer."""
    said = [t for t in case.prediction.content if t.stem in case.options and not t.negated]
    if not said:
        return Comparison("missing")
    first, last = said[0].index, said[-1].index
    if any(t.word == "or" for t in case.prediction.tokens[first:last]):
        return Comparison("several", " or ".join(t.word for t in said))
    if said[0].stem in wanted:
        return Comparison("same", said[0].word)
    return Comparison("other", said[0].word)


def _fault(case: _Case, found: Comparison, wanted: frozenset[str]) -> Mark:
    names = _names(case, wanted)
    denied = _recall(case, wanted)[1]
    if found.outcome == "several":
        return Mark(2, f'offers "{found.said}" where the reference says "{names}"')
    if found.outcome == "partial":
        return Mark(2, f'says only "{found.said}" of "{names}"')
    if found.outcome == "other":
        return Mark(1, f'says "{found.said}" where the reference says "{names}"')
    if denied:
        return Mark(1, f'denies "{denied}", which the reference states')
    return Mark(1, f'does not say "{names}"')


def _hedge(case: _Case) -> Mark | None:
    """A key word offered beside another word with "or", or in a list of guesses."""
    tokens = case.prediction.tokens
    if any(t.word == "or" for t in case.reference.tokens):
        return None
    for token in tokens:
        if token.word != "or":
            continue
        before = [t for t in tokens[: token.index] if t.content][-1:]
        after = [t for t in tokens[token.index + 1 :] if t.content][:2]
        pair = [any(t.stem in case.keys for t in side) for side in (before, after)]
        if before and after and pair[0] != pair[1]:
            return Mark(2, f'offers "{before[0].word} or {after[0].word}", not one answer')
    if len(case.keys) == 1 and _listed(tokens, case.keys) > 2:
        return Mark(2, "lists several answers where the reference gives one")
    return None


def _listed(tokens: Sequence[Token], keys: frozenset[str]) -> int:
    """Length of the longest bare list ("dog, cat, man") that a key word stands in."""
    run: list[Token] = []
    best = 0
    for token in tokens:
        if token.word in {"a", "an", "the", "and"}:
            continue
        if token.content and run and token.clause > run[-1].clause:
            run.append(token)
        else:
            run = [token] if token.content else []
        stems = {t.stem for t in run}
        if stems & keys:
            best = max(best, len(stems))
    return best


def _recall(case: _Case, keys: frozenset[str]) -> tuple[float, str]:
    """Weighted share of `keys` stated, and a key that is only denied (or "")."""
    total = stated = 0.0
    denied = ""
    told = {t.stem: t.negated for t in case.reference.tokens}
    said: dict[str, set[bool]] = {}
    for token in case.prediction.tokens:
        said.setdefault(token.stem, set()).add(token.negated)
    for key in keys:
        weight = _weight(key)
        total += weight
        signs = said.get(key)
        if signs is None:
            stated += weight * _kin(key, case.prediction)
        elif told.get(key, False) in signs:
            stated += weight
        else:
            denied = next(t.word for t in case.prediction.tokens if t.stem == key)
    return (stated / total if total else 1.0), denied


def _weight(key: str) -> float:
    if key in _LIGHT or EXCLUSIVE_SET.get(key) in _MINOR_SETS:
        return 0.5
    return 0.3 if key in GENERIC_STEMS else 1.0


def _akin(stem: str, known: frozenset[str]) -> bool:
    return any(stem in kinds_of(other) or near(stem, other) for other in known)


def _kin(key: str, prediction: Text) -> float:
    """How far a word that is not the key itself stands for it: a kind of it, or a near word."""
    for token in prediction.content:
        if not token.negated and (token.stem in kinds_of(key) or near(key, token.stem)):
            return 0.8
    return 0.0


def _dampen(found: Mark, case: _Case, caption: str | None) -> Mark:
    """Lower a right answer for what it adds."""
    if caption:
        extra = unsupported(case.prediction, caption, case.question, case.reference)
        if extra.named:
            return Mark(2, f'names "{extra.named[0]}", which the caption does not show')
        if extra.loose:
            limit = max(2, 5 - len(extra.loose))
            if limit < found.score:
                return Mark(limit, f'adds "{extra.loose[0]}", which the caption does not support')
    return _babble(found, case)


def _babble(found: Mark, case: _Case) -> Mark:
    content = case.prediction.content
    relevant = case.reference.stems | case.question.stems
    seen = {t.stem for t in content}
    if len(case.prediction.tokens) > 20 and len({t.stem for t in case.prediction.tokens}) * 4 < len(
        case.prediction.tokens
    ):
        return Mark(2, "repeats itself")
    extra = len(seen - relevant - GENERIC_STEMS)
    precise = len(seen & relevant) / max(1, len(seen))
    if extra > 24 and precise < 0.25:
        return Mark(2, "the answer is lost among other words")
    if extra > 12 and precise < 0.35 and found.score > ACCEPTABLE:
        return Mark(3, "says much beside the answer")
    return found


class AnswerMatch:
    """The judge: `mark` for every item; correct means a score of at least 3."""

    name = "answer-match"

    def describe(self) -> dict[str, Any]:
        """Name, kind, rule version and the hash of the rules' source and word tables."""
        return {"name": self.name, "kind": "rules", "version": VERSION, "hash": _rules_hash()}

    def check(self) -> None:
        """Nothing can be missing."""

    def judge(self, items: Sequence[JudgeItem]) -> Iterator[Verdict]:
        """Yield a verdict for each item in order; one without a reference is unscored."""
        about = self.describe()
        for item in items:
            try:
                found = mark(item.question, item.reference, item.prediction, item.caption)
            except ValueError as error:
                yield Verdict(item.id, "unscored", None, None, str(error), None, about)
                continue
            right = found.score >= ACCEPTABLE
            yield Verdict(item.id, "scored", right, float(found.score), found.reason, None, about)


_HASHES: list[str] = []


def _rules_hash() -> str:
    """SHA-256 over the modules that make the rules, first 16 hex digits."""
    if not _HASHES:
        folder = Path(__file__).parent
        names = ("answer_match", "details", "lexicon", "normalise", "order", "values")
        texts = (re.sub(r"\r\n", "\n", (folder / f"{n}.py").read_text("utf-8")) for n in names)
        _HASHES.append(sha256_text("\0".join(texts))[:16])
    return _HASHES[0]
