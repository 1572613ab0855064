"""What an experiment's file says: a question, levels, seeds, and the declared contrast."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from sharegptvideo._strict import StrictModel
from sharegptvideo.errors import unknown_name

__all__ = ["Contrast", "Experiment"]

Sentence = Annotated[str, Field(min_length=1)]


class Contrast(StrictModel):
    """The one comparison that an experiment declares before it is run: level `of` − `against`.

    Attributes:
        of: name of a level.
        against: name of a level, or "" for a level's own figure against zero.
        expect: how the difference comes out if the experiment's claim holds; `no_effect` is
            within ± 3 points.
        refuted_by: what result would refute the claim, in words.
    """

    of: str
    against: str = ""
    expect: Literal["less", "more", "no_effect"]
    refuted_by: Sentence


class Experiment(StrictModel):
    """One experiment: a question, levels of what is varied, seeds, and the declared contrast.

    Attributes:
        name: the file's stem.
        number: its place in the report.
        kind: what runs it, a name of `sharegptvideo.study.catalogue.KINDS`.
        figure: in words, what is measured at each level; the y axis.
        x_title: the x axis, where levels have places on one.
        seeds: how many worlds, each with a model of its own, at scale `small`.
        levels: settings by the level's name; the kind says which it takes.
        notes: what a reader must know to read the figures rightly.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    number: Annotated[int, Field(ge=1)]
    title: Sentence
    question: Sentence
    kind: str
    figure: Sentence
    x_title: str = ""
    seeds: Annotated[int, Field(ge=1)]
    levels: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    contrast: Contrast
    notes: tuple[Sentence, ...] = ()

    @field_validator("levels", mode="before")
    @classmethod
    def _with_settings(cls, levels: object) -> object:
        if isinstance(levels, Mapping):  # a level without settings is `name:` alone
            return {name: {} if each is None else each for name, each in levels.items()}
        return levels

    @model_validator(mode="after")
    def _declared(self) -> Experiment:
        for name in (self.contrast.of, self.contrast.against):
            if name and name not in self.levels:
                raise ValueError(str(unknown_name("level in contrast", name, self.levels)))
        return self
