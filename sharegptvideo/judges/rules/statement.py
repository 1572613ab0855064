"""Answers that state something: values that were asked for, and the reference's key words."""

from __future__ import annotations

from collections.abc import Sequence

from sharegptvideo.judges.base import Mark
from sharegptvideo.judges.rules.case import Case, names_main_key, recall, reference_words
from sharegptvideo.judges.rules.normalise import EXCLUSIVE_SET, Token, parse
from sharegptvideo.judges.rules.order import reversed_pair, tells_order
from sharegptvideo.judges.rules.values import Comparison, compare_values

__all__ = ["clash", "judge_statement"]


def clash(case: Case) -> Mark | None:
    """A value of the reference that the prediction replaces by another of its set."""
    affirmed = {t.stem for t in case.reference.content if not t.negated}
    for name in sorted({EXCLUSIVE_SET[s] for s in affirmed if s in EXCLUSIVE_SET}):
        if name == "sequence" and _order_is_told(case):
            continue
        wanted = frozenset(s for s in affirmed if EXCLUSIVE_SET.get(s) == name)
        found = compare_values(name, wanted, case.prediction, case.question, case.shown)
        if found.outcome == "other":
            return Mark(
                2, f'says "{found.said}" where the reference says "{reference_words(case, wanted)}"'
            )
    return None


def _order_is_told(case: Case) -> bool:
    return reversed_pair(case.reference, case.prediction, case.reference.stems) is not None


def judge_statement(case: Case) -> Mark:
    """Judge an answer that is not a yes or no."""
    if tells_order(case.question, case.reference):
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
        found = _compare(case, name, wanted)
        if found.outcome == "same":
            answered = True
            continue
        return _fault(case, found, wanted), False
    return None, answered


def _compare(case: Case, name: str, wanted: frozenset[str]) -> Comparison:
    if wanted <= case.options:
        return _compare_option(case, wanted)
    found = compare_values(name, wanted, case.prediction, case.question, case.shown)
    told = frozenset(s for s in case.reference.stems if EXCLUSIVE_SET.get(s) == name)
    if found.outcome != "same" and told > wanted:
        # "red and black" where the question has given "red" away: all that is told is right too.
        full = compare_values(name, told, case.prediction, case.question, case.shown)
        return full if full.outcome == "same" else found
    return found


def _compare_option(case: Case, wanted: frozenset[str]) -> Comparison:
    """The first of the question's alternatives that the prediction affirms is its answer."""
    said = [t for t in case.prediction.content if t.stem in case.options and not t.negated]
    if not said:
        return Comparison("missing")
    first, last = said[0].position, said[-1].position
    if any(t.word == "or" for t in case.prediction.tokens[first:last]):
        return Comparison("several", " or ".join(t.word for t in said))
    if said[0].stem in wanted:
        return Comparison("same", said[0].word)
    return Comparison("other", said[0].word)


def _fault(case: Case, found: Comparison, wanted: frozenset[str]) -> Mark:
    names = reference_words(case, wanted)
    denied = recall(case, wanted)[1]
    if found.outcome == "several":
        return Mark(2, f'offers "{found.said}" where the reference says "{names}"')
    if found.outcome == "partial":
        return Mark(2, f'says only "{found.said}" of "{names}"')
    if found.outcome == "other":
        return Mark(1, f'says "{found.said}" where the reference says "{names}"')
    if denied:
        return Mark(1, f'denies "{denied}", which the reference states')
    return Mark(1, f'does not say "{names}"')


def _hedge(case: Case) -> Mark | None:
    """A key word offered beside another word with "or", or in a list of guesses."""
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
