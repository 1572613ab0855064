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
| order | two things said in the wrong order | 2 |
| recall | share of the reference's key words stated: all, ⅔, ⅖, some, none | 5, 4, 3, 2, 1 |
| brief | few key words, but one of full weight, and no word beyond the texts | 3 |
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

from collections.abc import Iterator, Sequence
from dataclasses import replace

from sharegptvideo.judges.base import ACCEPTABLE, JudgeItem, Mark, RulesJudge
from sharegptvideo.judges.rules.case import (
    Case,
    akin,
    make_case,
    names_main_key,
    recall,
    reference_words,
)
from sharegptvideo.judges.rules.claims import (
    GENERIC_STEMS,
    Comparison,
    compare_values,
    mentions_order,
    reversed_pair,
    unsupported,
)
from sharegptvideo.judges.rules.lexicon import words
from sharegptvideo.judges.rules.text import EXCLUSIVE_SET, Text, Token, parse, plain

__all__ = ["RULES_VERSION", "AnswerMatch", "mark", "polarity_of_reference"]

RULES_VERSION = 2
"""Raise it when tests/golden/answer_match.json changes; 1 came with a hash of the source."""


def mark(question: str, reference: str, prediction: str, caption: str | None = None) -> Mark:
    """Score one answer by the rules above.

    Raises:
        ValueError: the reference has no words.
    """
    expected, said = parse(reference), parse(prediction)
    if not expected.tokens:
        raise ValueError("the reference answer has no words")
    if not said.tokens:
        return Mark(1, "says nothing")
    case = make_case(question, reference, prediction, caption)
    wanted = polarity_of_reference(case)
    contradicts = None if wanted is None else denies_its_lead(case.prediction, case.question)
    if plain(reference) == plain(prediction):
        result = Mark(5, "says the same as the reference")
    else:
        result = judge_statement(case) if wanted is None else judge_polar(case, wanted)
        if result.score >= ACCEPTABLE:
            result = _dampen(result, case, caption)
    return replace(result, contradiction=contradicts)


def _dampen(result: Mark, case: Case, caption: str | None) -> Mark:
    """Lower a right answer for what it adds."""
    if caption:
        extra = unsupported(case.prediction, caption, case.question, case.reference)
        if extra.named:
            return Mark(2, f'names "{extra.named[0]}", which the caption does not show')
        if extra.loose:
            limit = max(2, 5 - len(extra.loose))
            if limit < result.score:
                return Mark(limit, f'adds "{extra.loose[0]}", which the caption does not support')
    return _babble(result, case)


def _babble(result: Mark, case: Case) -> Mark:
    stems = [token.stem for token in case.prediction.tokens]
    if len(stems) > 20 and len(set(stems)) * 4 < len(stems):
        return Mark(2, "repeats itself")
    seen = case.prediction.stems
    relevant = case.reference.stems | case.question.stems
    extra = len(seen - relevant - GENERIC_STEMS)
    precise = len(seen & relevant) / max(1, len(seen))
    if extra > 24 and precise < 0.25:
        return Mark(2, "the answer is lost among other words")
    if extra > 12 and precise < 0.35 and result.score > ACCEPTABLE:
        return Mark(3, "says much beside the answer")
    return result


class AnswerMatch(RulesJudge):
    """The judge: `mark` for every item; correct means a score of at least 3."""

    name = "answer-match"
    version = RULES_VERSION

    def mark(self, item: JudgeItem) -> Mark:
        """Score by the rules above; see `RulesJudge.mark`."""
        return mark(item.question, item.reference, item.prediction, item.caption)


def clash(case: Case) -> Mark | None:
    """Mark an answer that replaces a value of the reference by another of its set."""
    affirmed = {t.stem for t in case.reference.content if not t.negated}
    for name in sorted({EXCLUSIVE_SET[s] for s in affirmed if s in EXCLUSIVE_SET}):
        if name == "sequence" and _compares_order(case):
            continue
        wanted = frozenset(s for s in affirmed if EXCLUSIVE_SET.get(s) == name)
        values = compare_values(name, wanted, case.prediction, case.question, case.shown)
        if values.outcome == "other":
            names = reference_words(case, wanted)
            return Mark(2, f'says "{values.said}" where the reference says "{names}"')
    return None


def _compares_order(case: Case) -> bool:
    return reversed_pair(case.reference, case.prediction, case.reference.stems) is not None


def judge_statement(case: Case) -> Mark:
    """Judge an answer that is not a yes or no."""
    if mentions_order(case.question, case.reference):
        turned = reversed_pair(case.reference, case.prediction, case.reference.stems)
        if isinstance(turned, tuple):
            return Mark(2, f'tells "{turned[0]}" before "{turned[1]}", against the reference')
    fault, answered = _judge_asked(case)
    if fault is not None:
        return fault
    fault = _hedge(case) or clash(case)
    if fault is not None:
        return fault
    stated, denied = recall(case, case.keys)
    if denied:
        return Mark(1, f'denies "{denied}", which the reference states')
    if answered:
        return Mark(5 if stated >= 0.99 else 4, "gives the value of the reference")
    return _by_recall(case, stated)


def _by_recall(case: Case, stated: float) -> Mark:
    missing = [t.word for t in case.reference.content if t.stem in case.keys]
    missing = [w for w in dict.fromkeys(missing) if not recall(case, parse(w).stems)[0]]
    lack = " and ".join(f'"{word}"' for word in missing[:3]) or "the reference's words"
    if stated >= 0.99:
        return Mark(5, "states what the reference states")
    if stated >= 0.66:
        return Mark(4, f"states most of the reference, not {lack}" if missing else
                    "states nearly what the reference states")  # fmt: skip
    if stated >= 0.4 or names_main_key(case):
        return Mark(3, f"states a part of the reference, not {lack}")
    if stated > 0:
        return Mark(2, f"states little of the reference, not {lack}")
    return Mark(1, f"does not state {lack}")


def _judge_asked(case: Case) -> tuple[Mark | None, bool]:
    """Compare the values that the question asks for; (fault, whether any was answered)."""
    answered = False
    chosen = {EXCLUSIVE_SET.get(s, "") for s in case.options & case.reference.stems} - {""}
    values = {EXCLUSIVE_SET[s] for s in case.keys if s in EXCLUSIVE_SET}
    only = values if len(values) == 1 and all(s in EXCLUSIVE_SET for s in case.keys) else set()
    for name in sorted(set(case.asked) & values | chosen | only):
        wanted = frozenset(s for s in case.keys if EXCLUSIVE_SET.get(s) == name)
        if not wanted:
            continue
        values_said = _compare(case, name, wanted)
        if values_said.outcome == "same":
            answered = True
            continue
        return _fault(case, values_said, wanted), False
    return None, answered


def _compare(case: Case, name: str, wanted: frozenset[str]) -> Comparison:
    if wanted <= case.options:
        return _compare_option(case, wanted)
    result = compare_values(name, wanted, case.prediction, case.question, case.shown)
    stated = frozenset(s for s in case.reference.stems if EXCLUSIVE_SET.get(s) == name)
    if result.outcome != "same" and stated > wanted:
        # "red and black" where the question has given "red" away: all that it states is right too.
        full = compare_values(name, stated, case.prediction, case.question, case.shown)
        return full if full.outcome == "same" else result
    return result


def _compare_option(case: Case, wanted: frozenset[str]) -> Comparison:
    """Compare the first of the question's alternatives that the prediction affirms."""
    said = [t for t in case.prediction.content if t.stem in case.options and not t.negated]
    if not said:
        return Comparison("missing")
    first, last = said[0].position, said[-1].position
    if any(t.word == "or" for t in case.prediction.tokens[first:last]):
        return Comparison("several", " or ".join(t.word for t in said))
    if said[0].stem in wanted:
        return Comparison("same", said[0].word)
    return Comparison("other", said[0].word)


def _fault(case: Case, comparison: Comparison, wanted: frozenset[str]) -> Mark:
    names = reference_words(case, wanted)
    denied = recall(case, wanted)[1]
    if comparison.outcome == "several":
        return Mark(2, f'offers "{comparison.said}" where the reference says "{names}"')
    if comparison.outcome == "partial":
        return Mark(2, f'says only "{comparison.said}" of "{names}"')
    if comparison.outcome == "other":
        return Mark(1, f'says "{comparison.said}" where the reference says "{names}"')
    if denied:
        return Mark(1, f'denies "{denied}", which the reference states')
    return Mark(1, f'does not say "{names}"')


def _hedge(case: Case) -> Mark | None:
    """Mark an answer that offers a key word beside others with "or", or in a list of guesses."""
    tokens = case.prediction.tokens
    if any(t.word == "or" for t in case.reference.tokens):
        return None
    for token in tokens:
        if token.word != "or":
            continue
        before = [t for t in tokens[: token.position] if t.content][-1:]
        after = [t for t in tokens[token.position + 1 :] if t.content][:2]
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


_YES = frozenset({"yes", "yeah", "yep", "correct", "true"})
_NO = frozenset({"no", "nope", "false"})
_AUXILIARIES = frozenset(
    words("is are was were am do does did has have had can could will would should may might")
)
_EXISTENCE = frozenset({"there", "you", "we", "see"})
_DENIALS = frozenset({"not", "no", "never", "none", "nothing", "nobody", "without", "neither"})


def _lead(text: Text) -> bool | None:
    word = text.tokens[0].word
    return True if word in _YES else False if word in _NO else None


def _denies(text: Text) -> bool:
    return any(t.word in _DENIALS or t.stem == "0" for t in text.tokens)


def polarity_of_reference(case: Case) -> bool | None:
    """Whether the reference says yes or no to the question; None if it answers otherwise."""
    lead = _lead(case.reference)
    first = case.question.tokens[0].word if case.question.tokens else ""
    if case.options or (lead is None and first not in _AUXILIARIES):
        return None
    if lead is not None:
        return lead if first in _AUXILIARIES or len(case.reference.tokens) == 1 else None
    return not _denies(case.reference)


def judge_polar(case: Case, wanted: bool) -> Mark:
    """Judge an answer where the reference says yes (`wanted`) or no."""
    said = _polarity_of_prediction(case, wanted)
    word = {True: "yes", False: "no"}
    if said is None:
        return Mark(1, f'says neither yes nor no; the reference says "{word[wanted]}"')
    if said != wanted:
        return Mark(1, f'says "{word[said]}" where the reference says "{word[wanted]}"')
    if denies_its_lead(case.prediction, case.question):
        return Mark(1, "contradicts itself")
    fault = _denies_another(case) or clash(case)
    if fault is not None:
        return fault
    keys = case.keys - case.question.stems - {"yes", "no"}
    stated, _ = recall(case, keys)
    if len(case.prediction.content) == 0 and len(case.reference.content) > 0:
        return Mark(4, f'says "{word[said]}" as the reference does, no more')
    if stated >= 0.99:
        return Mark(5, f'says "{word[said]}" as the reference does')
    return Mark(4, f'says "{word[said]}" as the reference does, with less detail')


def _denies_another(case: Case) -> Mark | None:
    """Denying something else than what was asked about answers another question."""
    known = case.question.stems | case.reference.stems | GENERIC_STEMS
    for token in case.prediction.content:
        if token.negated and token.stem not in known and not akin(token.stem, known):
            return Mark(2, f'denies "{token.word}", which was not asked about')
    return None


def _polarity_of_prediction(case: Case, wanted: bool) -> bool | None:
    lead = _lead(case.prediction)
    if lead is not None:
        return lead
    if _denies(case.prediction):
        return False
    keys = case.keys - case.question.stems
    if keys and recall(case, keys)[0] > 0.5:
        return wanted
    asked = case.question.stems - GENERIC_STEMS
    # "It is a circle." does not say that there is no cross; "It is blue." says that it is not red.
    existence = any(t.word in _EXISTENCE for t in case.question.tokens[1:3])
    if not existence and any(_opposes(case.prediction, case.question)):
        return False
    # "The man walks." does not say that he wears a hat.
    restated = asked and len(case.prediction.stems & asked) * 3 >= len(asked) * 2
    return True if restated else None


def _opposes(prediction: Text, question: Text) -> Iterator[str]:
    """Values of the prediction that shut out one of the question's, itself not stated."""
    for token in prediction.content:
        name = EXCLUSIVE_SET.get(token.stem)
        if name is None or token.stem in question.stems:
            continue
        rivals = {s for s in question.stems if EXCLUSIVE_SET.get(s) == name}
        if rivals and not rivals & prediction.stems:
            yield token.word


def denies_its_lead(prediction: Text, question: Text) -> bool:
    """Return whether a leading yes or no is denied by a rest that only repeats the question."""
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
