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

from dataclasses import replace

from sharegptvideo.judges.base import ACCEPTABLE, JudgeItem, Mark, RulesJudge
from sharegptvideo.judges.rules.case import Case, make_case
from sharegptvideo.judges.rules.details import GENERIC_STEMS, unsupported
from sharegptvideo.judges.rules.normalise import parse, plain
from sharegptvideo.judges.rules.polar import denies_its_lead, judge_polar, polarity_of_reference
from sharegptvideo.judges.rules.statement import judge_statement

__all__ = ["RULES_VERSION", "AnswerMatch", "mark"]

RULES_VERSION = 2
"""Raise it when tests/golden/answer_match.json changes; 1 came with a hash of the source."""


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
    case = make_case(question, reference, prediction, caption)
    wanted = polarity_of_reference(case)
    contradicts = None if wanted is None else denies_its_lead(case.prediction, case.question)
    if plain(reference) == plain(prediction):
        found = Mark(5, "says the same as the reference")
    else:
        found = judge_statement(case) if wanted is None else judge_polar(case, wanted)
        if found.score >= ACCEPTABLE:
            found = _dampen(found, case, caption)
    return replace(found, contradiction=contradicts)


def _dampen(found: Mark, case: Case, caption: str | None) -> Mark:
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


def _babble(found: Mark, case: Case) -> Mark:
    spoken = [token.stem for token in case.prediction.tokens]
    if len(spoken) > 20 and len(set(spoken)) * 4 < len(spoken):
        return Mark(2, "repeats itself")
    seen = case.prediction.stems
    relevant = case.reference.stems | case.question.stems
    extra = len(seen - relevant - GENERIC_STEMS)
    precise = len(seen & relevant) / max(1, len(seen))
    if extra > 24 and precise < 0.25:
        return Mark(2, "the answer is lost among other words")
    if extra > 12 and precise < 0.35 and found.score > ACCEPTABLE:
        return Mark(3, "says much beside the answer")
    return found


class AnswerMatch(RulesJudge):
    """The judge: `mark` for every item; correct means a score of at least 3."""

    name = "answer-match"
    version = RULES_VERSION

    def mark(self, item: JudgeItem) -> Mark:
        """Score by the rules above; see `RulesJudge.mark`."""
        return mark(item.question, item.reference, item.prediction, item.caption)
