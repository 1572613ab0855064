"""What may be asked of a model beside its task: frames, precision, system text, decoding."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sharegptvideo._text import plural
from sharegptvideo.errors import UserError, unknown_name
from sharegptvideo.models.base import Model, SamplingParams

__all__ = ["DTYPES", "GENERATION", "AnswerSettings", "parse_generation"]

DTYPES = ("auto", "bfloat16", "float16", "float32")
"""Precisions of weights and computation; "auto": as saved."""

GENERATION: dict[str, type[int] | type[float]] = {
    "max_new_tokens": int,
    "repetition_penalty": float,
    "seed": int,
    "temperature": float,
    "top_k": int,
    "top_p": float,
}
"""Settings of decoding by name, with their kind of number; see `SamplingParams`."""

_OF_OPENING = frozenset({"dtype", "max_pixels", "system"})
_OF_DRAWING = ("seed", "top_k", "top_p")


@dataclass(frozen=True, slots=True)
class AnswerSettings:
    """What is asked for otherwise than the task or the model has it; None: as they have it.

    Attributes:
        frames: of each clip.
        dtype: one of `DTYPES`.
        system: text before the conversation, in the place that the model's chat template has.
        max_pixels: of a frame, which is shrunk to them.
        generation: by the names in `GENERATION`.

    Raises:
        UserError: a value out of range, an unknown name, or a setting without effect.
    """

    frames: int | None = None
    dtype: str | None = None
    system: str | None = None
    max_pixels: int | None = None
    generation: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, count in (("frames", self.frames), ("max_pixels", self.max_pixels)):
            if count is not None and count < 1:
                raise UserError(f"{name} must be at least 1, got {count}")
        if self.dtype is not None and self.dtype not in DTYPES:
            raise unknown_name("dtype", self.dtype, DTYPES)
        if self.system is not None and not self.system.strip():
            raise UserError("the system text is empty; leave it out for the model's own")
        for name, value in self.generation.items():
            if name not in GENERATION:
                raise unknown_name("generation setting", name, GENERATION)
            kinds = (int,) if GENERATION[name] is int else (int, float)
            if isinstance(value, bool) or not isinstance(value, kinds):
                what = "a whole number" if GENERATION[name] is int else "a number"
                raise UserError(f"{name} must be {what}, got {value!r}")
        useless = [name for name in _OF_DRAWING if name in self.generation]
        if self.params(1).greedy and useless:
            raise UserError(
                f"{', '.join(useless)}: without effect at temperature 0, where nothing is drawn;"
                " add temperature"
            )

    def params(self, max_new_tokens: int) -> SamplingParams:
        """Return how answers are generated, cut at `max_new_tokens` unless that was given too.

        Raises:
            UserError: a value out of range.
        """
        chosen: dict[str, Any] = {"max_new_tokens": max_new_tokens, **self.generation}
        return SamplingParams(**chosen)

    @property
    def given(self) -> dict[str, Any]:
        """What was asked for, by name, settings of decoding among the others."""
        values = dataclasses.asdict(self)
        generation: dict[str, float] = values.pop("generation")
        return {name: value for name, value in values.items() if value is not None} | generation

    def check_obeyed(self, model: Model, *, is_open: bool = False) -> None:
        """Make sure that a model takes what was asked for.

        Args:
            model: whose settings these are to be.
            is_open: it was opened without them, so that those of opening come too late.

        Raises:
            UserError: one that it does not take; names those that it takes.
        """
        obeys = model.obeys - (_OF_OPENING if is_open else frozenset())
        refused = [_option(name) for name in self.given if name not in obeys]
        if refused:
            taken = ", ".join(sorted(map(_option, obeys))) or "none: its answers are there already"
            raise UserError(f"model {model.spec}: cannot obey {', '.join(refused)}; takes {taken}")
        most = model.most_frames
        if self.frames is not None and most is not None and self.frames > most:
            raise UserError(
                f"model {model.spec}: takes {plural(most, 'frame')} of a clip at most, and --frames"
                f" is {self.frames}"
            )


def _option(name: str) -> str:
    """Return a setting as it is written on the command line."""
    return f"--generation {name}" if name in GENERATION else f"--{name.replace('_', '-')}"


def parse_generation(texts: Sequence[str]) -> dict[str, float]:
    """Read settings of decoding, each written as NAME=NUMBER.

    Raises:
        UserError: one in another form, unknown (names the nearest), given twice, or no number.

    >>> parse_generation(["temperature=0.7", "top_k=20"])
    {'temperature': 0.7, 'top_k': 20}
    """
    settings: dict[str, float] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not value:
            raise UserError(f"--generation {text}: write NAME=NUMBER, as temperature=0.7")
        if name not in GENERATION:
            raise unknown_name("generation setting", name, GENERATION)
        if name in settings:
            raise UserError(f"--generation {name}: given twice")
        kind = GENERATION[name]
        try:
            settings[name] = kind(value)
        except ValueError as error:
            what = "a whole number" if kind is int else "a number"
            raise UserError(f"--generation {name}: must be {what}, got {value!r}") from error
    return settings
