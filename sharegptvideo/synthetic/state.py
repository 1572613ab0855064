"""What a clip of the synthetic world shows, exactly: objects, their motion and one change."""

from __future__ import annotations

import hashlib
import math
import random
from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "DIRECTIONS",
    "HELD_OUT",
    "SHAPES",
    "SIZES",
    "Change",
    "ClipState",
    "ObjectState",
    "sample_state",
    "state_key",
]

COLOURS = ("red", "green", "blue", "yellow", "purple", "white")
SHAPES = ("circle", "square", "triangle", "cross")
SIZES = ("small", "large")
DIRECTIONS = ("left", "right", "up", "down")
BACKGROUNDS = ("plain", "striped", "dotted", "checkered")

# Combinations of colour and shape that only the out-of-domain test shows.
HELD_OUT = frozenset(
    {("red", "triangle"), ("green", "cross"), ("blue", "square"), ("yellow", "circle")}
)

_STEP = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1), "still": (0, 0)}
_TRAVEL = 0.5  # of the picture's side, over the whole clip
_MARGIN = 0.15  # of the picture's side, kept clear of centres
_APART = 0.3  # of the picture's side, between two centres, at the least

Change = Literal["none", "colour", "turn", "vanish", "appear", "grow", "shrink"]
CHANGES: tuple[Change, ...] = ("none", "colour", "turn", "vanish", "appear", "grow", "shrink")
# A clip without a change would leave questions of order unasked, so changes are the rule.
CHANGE_WEIGHTS = (2, 4, 4, 2, 2, 2, 2)


@dataclass(frozen=True, slots=True)
class ObjectState:
    """One object. `motion` is a direction or `still`; `change` is what happens halfway.

    `new_colour` is set for the change `colour`, `new_motion` for `turn`; else both are None.
    `start` is the centre (x, y) at the first frame, as fractions of the picture.
    """

    shape: str
    colour: str
    size: str
    motion: str
    change: Change
    new_colour: str | None
    new_motion: str | None
    start: tuple[float, float]

    def position(self, moment: float) -> tuple[float, float]:
        """The centre (x, y) at `moment` in [0, 1], as fractions of the picture.

        A path that would leave the picture is shifted as a whole, so that it stays in view.
        """
        x, y = (self._kept(axis, moment) for axis in (0, 1))
        return x, y

    def _kept(self, axis: int, moment: float) -> float:
        path = [self._free(t)[axis] for t in (0.0, 0.5, 1.0)]
        shift = max(0.0, _MARGIN - min(path)) - max(0.0, max(path) - (1 - _MARGIN))
        return self._free(moment)[axis] + shift

    def _free(self, moment: float) -> tuple[float, float]:
        x, y = self.start
        legs = (
            (self.motion, min(moment, 0.5)),
            (self.new_motion or self.motion, max(moment - 0.5, 0.0)),
        )
        for motion, share in legs:
            dx, dy = _STEP[motion]
            x += dx * share * _TRAVEL
            y += dy * share * _TRAVEL
        return x, y


@dataclass(frozen=True, slots=True)
class ClipState:
    """All that a clip shows. `style` is `plain` or, out of domain, `outlined`."""

    objects: tuple[ObjectState, ...]
    background: str
    dark: bool
    style: str

    def as_dict(self) -> dict[str, Any]:
        """The state as plain JSON values."""
        return asdict(self)

    @staticmethod
    def from_dict(value: dict[str, Any]) -> ClipState:
        """The inverse of `as_dict`, also after a round trip through JSON."""
        objects = tuple(
            ObjectState(**{**item, "start": (item["start"][0], item["start"][1])})
            for item in value["objects"]
        )
        return ClipState(objects, value["background"], value["dark"], value["style"])


def state_key(state: ClipState) -> str:
    """A hash of what the clip shows, positions apart: equal keys mean equal captions."""
    told = [
        (o.shape, o.colour, o.size, o.motion, o.change, o.new_colour, o.new_motion)
        for o in state.objects
    ]
    text = repr((sorted(told, key=repr), state.background, state.dark))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def sample_state(rng: random.Random, *, held_out: bool) -> ClipState:
    """Draw a clip of one or two objects, differing in shape and in colour.

    With `held_out`, at least one object shows a combination of `HELD_OUT` and the style is
    the outlined one; without it, none does.
    """
    count = 1 if rng.random() < 0.45 else 2
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


def _apart(objects: tuple[ObjectState, ...]) -> bool:
    """Whether the objects never hide each other."""
    if len(objects) < 2:
        return True
    first, second = objects
    moments = [step / 8 for step in range(9)]
    return all(math.dist(first.position(t), second.position(t)) >= _APART for t in moments)


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
    start = (rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.8))
    return ObjectState(shape, colours[index], size, motion, change, new_colour, new_motion, start)
