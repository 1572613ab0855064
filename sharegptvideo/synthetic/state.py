"""The exact state of a clip of the synthetic world: objects, their motion and one change."""

from __future__ import annotations

import hashlib
import random
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "DIRECTIONS",
    "GRID",
    "HELD_OUT",
    "SHAPES",
    "SIZES",
    "Change",
    "ClipState",
    "ObjectState",
    "sample_state",
    "state_key",
    "stilled",
]

COLOURS = ("red", "green", "blue", "yellow", "purple", "white")
SHAPES = ("square", "ring", "triangle", "cross")
SIZES = ("small", "large")
DIRECTIONS = ("left", "right", "up", "down")
BACKGROUNDS = ("plain", "striped", "dotted", "checkered")

# Combinations of colour and shape that only the out-of-domain test shows.
HELD_OUT = frozenset(
    {("red", "triangle"), ("green", "cross"), ("blue", "square"), ("yellow", "ring")}
)

GRID = 3  # cells a side
_STEP = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1), "still": (0, 0)}

Change = Literal["none", "colour", "turn", "vanish", "appear", "grow", "shrink"]
CHANGES: tuple[Change, ...] = ("none", "colour", "turn", "vanish", "appear", "grow", "shrink")
# A clip without a change would leave questions of order unasked, so changes are the rule.
CHANGE_WEIGHTS = (2, 4, 4, 2, 2, 2, 2)


@dataclass(frozen=True, slots=True)
class ObjectState:
    """One object. `motion` is a direction or `still`; `change` is what happens halfway.

    `new_colour` is set for the change `colour`, `new_motion` for `turn`; else both are None.
    `start` is the cell (column, row) of the first frame, from the top left.
    """

    shape: str
    colour: str
    size: str
    motion: str
    change: Change
    new_colour: str | None
    new_motion: str | None
    start: tuple[int, int]

    def cell(self, moment: float) -> tuple[int, int]:
        """Return the cell (column, row) at `moment` in [0, 1].

        An object hops twice: at one and two thirds of the clip or, if it turns, once before and
        once after the middle.
        """
        hops = (
            (moment >= 0.25, moment >= 0.75)
            if self.new_motion
            else (moment > 1 / 3, moment > 2 / 3)
        )
        column, row = self.start
        for motion, done in zip((self.motion, self.new_motion or self.motion), hops, strict=True):
            column += _STEP[motion][0] * done
            row += _STEP[motion][1] * done
        return column, row

    def path(self) -> list[tuple[int, int]]:
        """Return the object's cells at the start, the middle and the end of the clip."""
        return [self.cell(moment) for moment in (0.0, 0.5, 1.0)]


@dataclass(frozen=True, slots=True)
class ClipState:
    """All that a clip shows. `style` is `plain` or, out of domain, `outlined`."""

    objects: tuple[ObjectState, ...]
    background: str
    dark: bool
    style: str

    def as_dict(self) -> dict[str, Any]:
        """Return the state as plain JSON values."""
        return asdict(self)

    @staticmethod
    def from_dict(value: dict[str, Any]) -> ClipState:
        """Return the state of an `as_dict`, also after a round trip through JSON."""
        objects = tuple(
            ObjectState(**{**item, "start": (item["start"][0], item["start"][1])})
            for item in value["objects"]
        )
        return ClipState(objects, value["background"], value["dark"], value["style"])


def state_key(state: ClipState) -> str:
    """Hash what the clip shows, positions apart: equal keys mean equal captions."""
    objects = [
        (o.shape, o.colour, o.size, o.motion, o.change, o.new_colour, o.new_motion)
        for o in state.objects
    ]
    text = repr((sorted(objects, key=repr), state.background, state.dark))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def sample_state(rng: random.Random, *, held_out: bool) -> ClipState:
    """Draw a clip of one or two objects, differing in shape and in colour.

    With `held_out`, at least one object shows a combination of `HELD_OUT` and the style is
    the outlined one; without it, none does.
    """
    count = 2 if rng.random() < 0.3 else 1
    changing = rng.randrange(count)
    while True:
        shapes = rng.sample(SHAPES, count)
        colours = rng.sample(COLOURS, count)
        pairs = set(zip(colours, shapes, strict=True))
        if held_out == bool(pairs & HELD_OUT):
            break
    objects: tuple[ObjectState, ...] = ()
    while not objects or not _apart(objects):
        objects = tuple(
            _object(rng, shapes[i], colours, i, changes=i == changing, held_out=held_out)
            for i in range(count)
        )
    return ClipState(
        objects=objects,
        background=rng.choice(BACKGROUNDS),
        dark=rng.random() < 0.5,
        style="outlined" if held_out else "plain",
    )


def stilled(state: ClipState) -> ClipState:
    """Return the state with nothing that moves or changes: what one picture can show."""
    objects = tuple(
        replace(item, motion="still", change="none", new_colour=None, new_motion=None)
        for item in state.objects
    )
    return replace(state, objects=objects)


def _apart(objects: tuple[ObjectState, ...]) -> bool:
    """Return whether no cell is visited by two objects."""
    cells = [set(item.path()) for item in objects]
    return len(objects) < 2 or not cells[0] & cells[1]


def _object(
    rng: random.Random,
    shape: str,
    colours: list[str],
    index: int,
    *,
    changes: bool,
    held_out: bool,
) -> ObjectState:
    change: Change = rng.choices(CHANGES, CHANGE_WEIGHTS)[0] if changes else "none"
    motion = rng.choice(("still", *DIRECTIONS, *DIRECTIONS))
    if change == "turn" and motion == "still":
        motion = rng.choice(DIRECTIONS)
    new_colour = new_motion = None
    if change == "colour":
        free = [
            colour
            for colour in COLOURS
            if colour not in colours and (held_out or (colour, shape) not in HELD_OUT)
        ]
        new_colour = rng.choice(free)
    if change == "turn":
        new_motion = rng.choice([d for d in DIRECTIONS if d != motion])
    size = {"grow": "small", "shrink": "large"}.get(change) or rng.choice(SIZES)
    item = ObjectState(shape, colours[index], size, motion, change, new_colour, new_motion, (0, 0))
    cells = [(column, row) for column in range(GRID) for row in range(GRID)]
    return replace(item, start=rng.choice([cell for cell in cells if _fits(item, cell)]))


def _fits(item: ObjectState, start: tuple[int, int]) -> bool:
    """Return whether the object stays in the picture when it starts there."""
    path = replace(item, start=start).path()
    return all(0 <= axis < GRID for cell in path for axis in cell)
