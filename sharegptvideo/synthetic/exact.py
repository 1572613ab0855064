"""Verdicts on answers from the clip's exact state, never from its caption."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sharegptvideo.synthetic.reading import Claim, Mention, Reading, read_answer
from sharegptvideo.synthetic.state import SHAPES, ClipState, ObjectState

__all__ = ["RULES_VERSION", "Check", "check_answer", "is_right"]

RULES_VERSION = 2
"""Raise it when tests/golden/exact_state.json changes; 1 read only an answer's first yes or no."""

_NUMBERS = {1: "one", 2: "two"}
# Of these only one can hold of the same thing at the same time.
_EXCLUSIVE = ("size", "tone", "count", "number")


@dataclass(frozen=True, slots=True)
class Check:
    """The verdict on an answer: `contradicts` means that it cannot hold of any clip."""

    right: bool
    contradicts: bool
    reason: str


def is_right(question: Mapping[str, Any], answer: str) -> bool:
    """Return whether `answer` states what `question` expects and nothing false."""
    return check_answer(question, answer).right


def check_answer(question: Mapping[str, Any], answer: str, *, ignore_things: bool = False) -> Check:
    """Check an answer against the state of its clip.

    Right is an answer that states what is expected, claims nothing that is false of the clip,
    and does not contradict itself. A value that is denied ("not blue") states nothing, and is
    false where the clip shows it. A question of presence is answered by a yes or a no in words;
    naming the thing alone ("is no ring") is wrong, and so is an answer about another thing.

    Args:
        question: `Question.as_dict()` with the clip's `state` (`ClipState.as_dict()`), as
            `load_questions` gives it.
        answer: the text of the answer.
        ignore_things: leave invented things out of account, to see what else is wrong.
    """
    state = ClipState.from_dict(question["state"])
    reading = read_answer(answer, question["about"] if question["about"] in SHAPES else None)
    conflict = _contradiction(question, reading)
    if conflict is not None:
        return Check(False, True, f"contradicts itself: {conflict}")
    fault = _unexpected(question, reading) or next(
        _false_claims(question, state, reading, ignore_things=ignore_things), None
    )
    return Check(fault is None, False, fault or "states what the clip shows")


def _contradiction(question: Mapping[str, Any], reading: Reading) -> str | None:
    """Return what is both asserted and denied, whatever the clip shows; None if nothing is."""
    said = _polarities(question, reading) if question["kind"] == "presence" else reading.polarities
    if len(said) == 2:
        return "both yes and no"
    claims = set(reading.claims)
    for claim in reading.claims:
        if Claim(claim.attribute, claim.value, not claim.holds, claim.subject) in claims:
            return f'"{claim.value}" is asserted and denied'
    for mention in reading.mentions:
        if mention.holds and any(_denies(other, mention) for other in reading.mentions):
            return f"a {mention.noun} is asserted and denied"
    return None if reading.in_order or reading.either else _clash(reading.claims)


def _clash(claims: Sequence[Claim]) -> str | None:
    """Return two values of one thing of which one excludes the other, stated without an order."""
    for number, one in enumerate(claims):
        for other in claims[number + 1 :]:
            if not one.holds or not other.holds or one.value == other.value:
                continue
            if (one.attribute, one.subject) != (other.attribute, other.subject):
                continue
            values = {one.value, other.value}
            excluded = (
                one.attribute in _EXCLUSIVE
                or (one.attribute == "direction" and "still" in values)
                or (one.attribute == "change" and "none" in values)
            )
            if excluded:
                return f'"{one.value}" and "{other.value}"'
    return None


def _denies(denial: Mention, asserted: Mention) -> bool:
    """Return whether there is no `asserted` where there is no `denial`."""
    return (
        not denial.holds
        and denial.noun in (asserted.noun, "object")
        and set(denial.colours) <= set(asserted.colours)
        and set(denial.sizes) <= set(asserted.sizes)
    )


def _polarities(question: Mapping[str, Any], reading: Reading) -> set[bool]:
    """Return every yes and no to a question of presence, in words or implied by a mention."""
    said = {*reading.polarities, *reading.bare}
    *colours, noun = question["about"].split()
    asked = Mention(noun, tuple(colours), (), holds=True)
    for mention in reading.mentions:
        if mention.holds and mention.noun == noun and set(colours) <= set(mention.colours):
            said.add(True)
        if _denies(mention, asked):
            said.add(False)
    return said


def _unexpected(question: Mapping[str, Any], reading: Reading) -> str | None:
    """Return why the answer does not state what is expected; None where it does."""
    expected: Mapping[str, Sequence[Sequence[str]]] = question["expected"]
    if question["kind"] == "presence":
        return _not_answered(question, reading)
    if reading.polarities:
        return "says yes or no to an open question"
    if reading.either:
        return "leaves open which of two values holds"
    for attribute, accepted in expected.items():
        stated = tuple(_stated(question, reading, attribute))
        if list(stated) not in [list(values) for values in accepted]:
            values_said = ", ".join(stated) or "nothing"
            return f'{attribute}: says {values_said}, expected "{", ".join(accepted[0])}"'
    return None


def _not_answered(question: Mapping[str, Any], reading: Reading) -> str | None:
    """Return why a question of presence is not answered; None where it is.

    The answer has no yes or no in words, says the opposite, or is about another thing.
    """
    wanted = question["expected"]["polarity"][0][0]
    if not reading.polarities:
        return "says neither yes nor no"
    if _polarities(question, reading) != {wanted == "yes"}:
        return f'says the opposite of "{wanted}"'
    *colours, noun = question["about"].split()
    asked = Mention(noun, tuple(colours), (), holds=True)
    mentions = [mention for mention in reading.mentions if mention.holds == (wanted == "yes")]
    if wanted == "yes":
        about = any(m.noun == noun and set(m.colours) <= {*colours} for m in mentions)
        about |= any(_denies(replace(asked, holds=False), mention) for mention in mentions)
    else:
        about = any(_denies(mention, asked) for mention in mentions)
    if mentions and not about:
        return f"is about another thing than {question['about']}"
    denied = [c.value for c in reading.claims if not c.holds and c.value not in colours]
    return f'denies "{denied[0]}", which was not asked about' if denied else None


def _stated(question: Mapping[str, Any], reading: Reading, attribute: str) -> Iterator[str]:
    """Yield the values asserted of what was asked about; repeats in a row count once."""
    if attribute == "shape":
        values = [mention.noun for mention in reading.mentions if mention.holds]
        values = [noun for noun in values if noun in SHAPES]
    else:
        names = ("count", "number") if attribute == "count" else (attribute,)
        values = [
            claim.value
            for claim in reading.claims
            if claim.holds
            and claim.attribute in names
            and claim.subject in (None, question["about"])
        ]
    for number, value in enumerate(values):
        if number == 0 or values[number - 1] != value:
            yield value


def _false_claims(
    question: Mapping[str, Any], state: ClipState, reading: Reading, *, ignore_things: bool
) -> Iterator[str]:
    """Yield everything that the answer claims and the clip does not show."""
    for mention in reading.mentions:
        thing = mention.noun not in SHAPES and mention.noun != "object"
        if thing and ignore_things:
            continue
        there = any(_matches(mention, item) for item in state.objects)
        if question["kind"] == "shape" and not mention.holds and mention.noun in SHAPES:
            there = mention.noun == question["about"]  # "it is not a ring" is said of one object
        if there != mention.holds:
            name = " ".join([*mention.sizes, *mention.colours, mention.noun])
            yield f"says that there is {'a' if mention.holds else 'no'} {name}"
    for claim in reading.claims:
        if claim.attribute == "number" and question["kind"] != "count":
            continue  # "there is one", of something else
        if claim.holds != _is_true(claim, state, question["about"]):
            yield f"{claim.attribute}: {'says' if claim.holds else 'denies'} {claim.value}"


def _matches(mention: Mention, item: ObjectState) -> bool:
    return (
        mention.noun in (item.shape, "object")
        and set(mention.colours) <= {item.colour, item.new_colour}
        and set(mention.sizes) <= _sizes(item)
    )


def _sizes(item: ObjectState) -> set[str]:
    return {"small", "large"} if item.change in ("grow", "shrink") else {item.size}


def _is_true(claim: Claim, state: ClipState, about: str | None) -> bool:
    """Return whether the value holds of its subject, or of what was asked, at any time."""
    if claim.attribute in ("count", "number"):
        return claim.value == _NUMBERS[len(state.objects)]
    if claim.attribute == "background":
        return claim.value == state.background
    if claim.attribute == "tone":
        return (claim.value == "dark") == state.dark
    if claim.attribute == "copies":
        return False  # no clip shows a shape twice
    subject = claim.subject or (about if about in SHAPES else None)
    items = [item for item in state.objects if subject in (item.shape, None)]
    return any(claim.value in _shown(item, claim.attribute) for item in items)


_CHANGES = {
    "none": "none",
    "grow": "grows",
    "shrink": "shrinks",
    "vanish": "disappears",
    "appear": "appears",
}


def _shown(item: ObjectState, attribute: str) -> set[str | None]:
    shown: dict[str, set[str | None]] = {
        "colour": {item.colour, item.new_colour},
        "size": {*_sizes(item)},
        "direction": {item.motion, item.new_motion},
        "change": {_CHANGES.get(item.change)},
    }
    return shown[attribute] - {None}
