"""Questions answered by yes or no."""

from __future__ import annotations

from collections.abc import Iterator

from sharegptvideo.judges.base import Mark
from sharegptvideo.judges.rules.case import Case, akin, recall
from sharegptvideo.judges.rules.details import GENERIC_STEMS
from sharegptvideo.judges.rules.lexicon import words
from sharegptvideo.judges.rules.normalise import EXCLUSIVE_SET, Text
from sharegptvideo.judges.rules.statement import clash

__all__ = ["denies_its_lead", "judge_polar", "polarity_of_reference"]

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
    told = case.question.stems | case.reference.stems | GENERIC_STEMS
    for token in case.prediction.content:
        if token.negated and token.stem not in told and not akin(token.stem, told):
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
    """Tell whether a leading yes or no is denied by a rest that only repeats the question."""
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
