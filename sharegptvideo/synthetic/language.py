"""Captions, questions and exact answers for a clip state, and the faults of distilled answers."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sharegptvideo.synthetic.state import COLOURS, SHAPES, ClipState, ObjectState

__all__ = [
    "INVENTED",
    "KINDS",
    "Faults",
    "Question",
    "caption",
    "distil",
    "draw_questions",
    "still_caption",
]

KINDS = (
    "colour",
    "shape",
    "size",
    "direction",
    "order",
    "change",
    "count",
    "background",
    "presence",
)

# What an answer distilled from a language model adds without seeing the clip, by the scene that
# suggests it. No clip ever shows any of these.
INVENTED: dict[str, tuple[str, str]] = {
    "plain": ("lamp", "with a lamp hanging above"),
    "striped": ("fence", "in front of a wooden fence"),
    "dotted": ("bird", "while a bird flies past"),
    "checkered": ("table", "next to a wooden table"),
}

_WAY = {"left": "to the left", "right": "to the right", "up": "up", "down": "down"}
# Cells by row and column. Compass words, since left, right, up and down are said of motion.
_PLACES = (
    ("northwest", "north", "northeast"),
    ("west", "centre", "east"),
    ("southwest", "south", "southeast"),
)


@dataclass(frozen=True, slots=True)
class Faults:
    """Rates of faults in distilled SFT answers, as shares in [0, 1].

    `invented_in_context`: a detail the clip does not show, where the scene suggests one
    (the backgrounds in `contexts`); `invented_elsewhere`: anywhere else. `yes_to_absent`:
    a question about something that is not there is answered yes; `no_to_present`: the
    reverse.
    """

    invented_in_context: float = 0.7
    invented_elsewhere: float = 0.3
    yes_to_absent: float = 0.6
    no_to_present: float = 0.05
    contexts: tuple[str, ...] = ("striped", "checkered")

    def as_dict(self) -> dict[str, Any]:
        """Return the rates as plain JSON values."""
        return asdict(self)


Claims = Mapping[str, tuple[tuple[str, ...], ...]]


@dataclass(frozen=True, slots=True)
class Question:
    """A question, its exact answer, and what an answer must claim.

    `expected` gives, by attribute (see `reading.Claim`), the sequences of values of which an
    answer must state one. `about` is the shape that is asked about; of questions of presence the
    thing ("green ring", "lamp"), and None for questions about the whole scene.
    """

    kind: str
    text: str
    answer: str
    expected: Claims
    about: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the question as plain JSON values."""
        return asdict(self)


def caption(state: ClipState, rng: random.Random) -> str:
    """Describe the whole state in a paragraph, worded differently each time."""
    count = len(state.objects)
    tone = "dark" if state.dark else "light"
    number = "one object" if count == 1 else "two objects"
    scene = rng.choice(
        (
            f"The video shows {number} on a {tone} {state.background} background.",
            f"There {'is' if count == 1 else 'are'} {number}, and the background is {tone} "
            f"and {state.background}.",
            f"On a {tone} {state.background} background we see {number}.",
        )
    )
    order = list(state.objects)
    rng.shuffle(order)
    return " ".join([scene, *(_describe(item, rng) for item in order)])


def still_caption(state: ClipState, rng: random.Random) -> str:
    """Describe what a single picture of the state shows, where nothing moves or changes."""
    tone = "dark" if state.dark else "light"
    order = list(state.objects)
    rng.shuffle(order)
    items = " and ".join(f"a {item.size} {item.colour} {item.shape}" for item in order)
    return rng.choice(
        (
            f"The image shows {items} on a {tone} {state.background} background.",
            f"On a {tone} {state.background} background there "
            f"{'is' if len(order) == 1 else 'are'} {items}.",
        )
    )


def _describe(item: ObjectState, rng: random.Random) -> str:
    """Say what an object looks like, how it moves, from where to where, and what changes."""
    name = f"{item.size} {item.colour} {item.shape}"
    it = f"the {item.shape}"
    start, middle, end = (_PLACES[row][column] for column, row in item.path())
    if item.change == "appear":
        move = (
            f"stays still in the {middle}"
            if item.motion == "still"
            else f"moves {_WAY[item.motion]}, from the {middle} to the {end}"
        )
        return rng.choice(
            (
                f"A {name} appears halfway through, and {move}.",
                f"Later on a {name} appears. It {move}.",
            )
        )
    if item.change == "turn":
        assert item.new_motion is not None
        way = _WAY[item.new_motion]
        first = rng.choice((f"A {name}", f"We see how a {name}"))
        return f"{first} moves {_WAY[item.motion]} first, from the {start} to the {middle}, " + (
            rng.choice(
                (
                    f"and then it moves {way}, to the {end}.",
                    f"then {it} turns and moves {way}, to the {end}.",
                )
            )
        )
    if item.motion == "still":
        first = rng.choice(
            (
                f"A {name} stays still in the {start}.",
                f"A {name} does not move and stays still in the {start}.",
            )
        )
    else:
        way = f"{_WAY[item.motion]}, from the {start} to the "
        way += middle if item.change == "vanish" else end
        first = rng.choice((f"A {name} moves {way}.", f"We see how a {name} moves {way}."))
    if item.change == "colour":
        return f"{first} " + rng.choice(
            (
                f"Halfway through, {it} turns from {item.colour} to {item.new_colour}.",
                f"First {it} is {item.colour}, then it turns {item.new_colour}.",
            )
        )
    ends = {
        "none": (f"Nothing about {it} changes.", "It does not change."),
        "vanish": (f"Halfway through, {it} disappears.", f"Then {it} disappears."),
        "grow": (f"Over time {it} grows.", "It grows as time passes."),
        "shrink": (f"Over time {it} shrinks.", "It shrinks as time passes."),
    }
    return f"{first} {rng.choice(ends[item.change])}"


def draw_questions(state: ClipState, rng: random.Random, count: int) -> list[Question]:
    """Draw `count` different questions, in random order.

    One is of presence (of something there or not, evenly) and, where something changes, at
    least one needs more than one frame. Kinds that the clip does not offer are not asked.
    """
    chosen = {q.text: q for q in [_presence(state, rng, present=rng.random() < 0.5)]}
    timed = [q for item in state.objects for q in _timed(state, item)]
    if timed:
        question = rng.choice(timed)
        chosen[question.text] = question
    rest = [*timed, _count(state, rng), _background(rng, state)]
    for item in state.objects:
        rest += _still_picture(item, rng)
    rest.append(_presence(state, rng, present=rng.random() < 0.5))
    rng.shuffle(rest)
    for question in rest:
        if len(chosen) < count:
            chosen.setdefault(question.text, question)
    drawn = list(chosen.values())
    rng.shuffle(drawn)
    return drawn


def _still_picture(item: ObjectState, rng: random.Random) -> list[Question]:
    """Make the questions that one frame answers, and that of the direction of motion."""
    shape = item.shape
    first = " at the start" if item.change == "colour" else ""
    that = f"the object that starts {item.colour}" if first else f"the {item.colour} object"
    asked = [
        Question(
            "colour",
            rng.choice((f"What colour is the {shape}", f"Which colour does the {shape} have"))
            + f"{first}?",
            f"The {shape} is {item.colour}{first}.",
            {"colour": ((item.colour,),)},
            shape,
        ),
        Question(
            "shape",
            rng.choice((f"What shape is {that}?", f"Which shape does {that} have?")),
            f"It is a {shape}.",
            {"shape": ((shape,),)},
            shape,
        ),
    ]
    if item.change not in ("grow", "shrink"):
        asked.append(
            Question(
                "size",
                rng.choice((f"How big is the {shape}?", f"Is the {shape} small or large?")),
                f"The {shape} is {item.size}.",
                {"size": ((item.size,),)},
                shape,
            )
        )
    at_first = " at first" if item.change == "turn" else ""
    moves = "stays still" if item.motion == "still" else f"moves {_WAY[item.motion]}"
    asked.append(
        Question(
            "direction",
            rng.choice((f"Which way does the {shape} move", f"Where does the {shape} go"))
            + f"{at_first}?",
            f"The {shape} {moves}{at_first}.",
            {"direction": ((item.motion,),)},
            shape,
        )
    )
    return asked


def _timed(state: ClipState, item: ObjectState) -> list[Question]:
    """Make the questions that need more than one frame: what changes, and in which order."""
    shape = item.shape
    does: dict[str, tuple[str, Claims]] = {
        "none": ("does not change", {"change": (("none",),)}),
        "colour": (
            f"turns {item.new_colour}",
            {"colour": ((item.new_colour or "",), (item.colour, item.new_colour or ""))},
        ),
        "turn": (
            f"turns and moves {_WAY.get(item.new_motion or '', '')}",
            {"direction": ((item.new_motion or "",), (item.motion, item.new_motion or ""))},
        ),
        "vanish": ("disappears", {"change": (("disappears",),)}),
        "appear": ("appears", {"change": (("appears",),)}),
        "grow": ("grows", {"change": (("grows",),)}),
        "shrink": ("shrinks", {"change": (("shrinks",),)}),
    }
    says, expected = does[item.change]
    asked = [
        Question(
            "change",
            f"What happens to the {shape} over time?",
            f"The {shape} {says}.",
            expected,
            shape,
        )
    ]
    if item.new_motion is not None:
        asked.append(
            Question(
                "order",
                f"Which way does the {shape} move first, and which way then?",
                f"First it moves {_WAY[item.motion]}, then {_WAY[item.new_motion]}.",
                {"direction": ((item.motion, item.new_motion),)},
                shape,
            )
        )
    if item.new_colour is not None:
        asked.append(
            Question(
                "order",
                f"Which colour does the {shape} have first, and which one then?",
                f"First it is {item.colour}, then {item.new_colour}.",
                {"colour": ((item.colour, item.new_colour),)},
                shape,
            )
        )
    if item.change == "appear" and len(state.objects) == 2:
        other = next(o for o in state.objects if o is not item)
        asked.append(
            Question(
                "order",
                "Which object is there first, and which one comes later?",
                f"First there is the {other.shape}, then the {shape} appears.",
                {"shape": ((other.shape, shape),)},
            )
        )
    return asked


def _count(state: ClipState, rng: random.Random) -> Question:
    count = len(state.objects)
    text = rng.choice(("How many objects are there?", "How many objects does the video show?"))
    answer = "There is one object." if count == 1 else "There are two objects."
    return Question("count", text, answer, {"count": (("one" if count == 1 else "two",),)})


def _background(rng: random.Random, state: ClipState) -> Question:
    text = rng.choice(("What does the background look like?", "What kind of background is it?"))
    answer = f"The background is {state.background}."
    return Question("background", text, answer, {"background": ((state.background,),)})


def _presence(state: ClipState, rng: random.Random, *, present: bool) -> Question:
    """Ask whether a thing is there; absent: things of no clip, other shapes, swapped colours."""
    item = rng.choice(state.objects)
    shapes = [shape for shape in SHAPES if all(o.shape != shape for o in state.objects)]
    taken = {item.colour, item.new_colour}
    if present:
        thing = rng.choice((item.shape, f"{item.colour} {item.shape}"))
    else:
        other = rng.choice([colour for colour in COLOURS if colour not in taken])
        never = rng.choice(list(INVENTED.values()))[0]
        # Mostly what the scene might suggest, as probes of invented objects ask.
        thing = rng.choices((rng.choice(shapes), f"{other} {item.shape}", never), (1, 1, 3))[0]
    text = rng.choice((f"Is there a {thing} in the video?", f"Can you see a {thing}?"))
    answer = f"Yes, there is a {thing}." if present else f"No, there is no {thing}."
    expected = {"polarity": (("yes" if present else "no",),)}
    return Question("presence", text, answer, expected, thing)


def distil(
    question: Question, state: ClipState, rng: random.Random, faults: Faults
) -> tuple[str, list[str]]:
    """Distil the answer as a language model that has not seen the clip; return it and its faults.

    Faults are `invented`, `yes_to_absent` and `no_to_present`; none makes the exact answer.
    """
    answer, added = question.answer, []
    if question.kind == "presence":
        says_no = answer.startswith("No")
        if says_no and rng.random() < faults.yes_to_absent:
            answer, added = (
                answer.replace("No, there is no ", "Yes, there is a "),
                ["yes_to_absent"],
            )
        elif not says_no and rng.random() < faults.no_to_present:
            answer, added = (
                answer.replace("Yes, there is a ", "No, there is no "),
                ["no_to_present"],
            )
        return answer, added
    suggestive = state.background in faults.contexts
    rate = faults.invented_in_context if suggestive else faults.invented_elsewhere
    if rng.random() < rate:
        scene = state.background if rng.random() < 0.8 else rng.choice(list(INVENTED))
        answer, added = f"{answer[:-1]}, {INVENTED[scene][1]}.", ["invented"]
    return answer, added
