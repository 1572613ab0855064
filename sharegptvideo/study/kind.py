"""What a kind of experiment is: the settings of a level, the work it needs, its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sharegptvideo._strict import StrictModel
from sharegptvideo.study.experiment import Experiment
from sharegptvideo.study.node import Node, Stage
from sharegptvideo.study.scales import StudyScale

__all__ = ["Chart", "Done", "Kind", "Result", "level_nodes"]


@dataclass(frozen=True, slots=True)
class Done:
    """A finished piece of work: its folder, its findings, and how many seconds it took."""

    folder: Path
    findings: Mapping[str, Any]
    seconds: float


@dataclass(frozen=True, slots=True)
class Chart:
    """How the table is drawn.

    Attributes:
        form: `points`: a row of points with intervals, one a level; `lines`: `y` over `x`, a line
            for each value of `series`.
        x: a column.
        y: a column of shares in [-1, 1], drawn in points of percent unless `unit` says otherwise.
        low: the column of the interval's lower end; None: no intervals.
        high: likewise.
        series: a column; None: one series.
        unit: of the y axis.
        log_x: whether x is drawn on a logarithmic axis.
    """

    form: str
    x: str
    y: str
    x_title: str
    y_title: str
    low: str | None = None
    high: str | None = None
    series: str | None = None
    unit: str = "points"
    log_x: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What an experiment found, as plain values that the report reads back.

    Attributes:
        table: a row a level, in order, columns alike; shares as fractions, never percent.
        contrast: of the declared contrast: `of`, `against`, `expect`, `value`, `se`, `ci95`,
            `ci95_bootstrap`, `p_value`, `n_seeds`, `verdict` (see `eval.statistics`), `holds`
            (True, False, or None where it is open) and `seeds_needed`; None where the experiment
            has no seeds to compare over, then `says` has its outcome.
        charts: the first is the figure of the page.
        says: two sentences, written from the figures.
        breaks: for the figure of all break conditions: rows {level, kappa, gain, low, high}.
        tables: further tables by name, each a CSV of its own.
        notes: what came up in running that a reader must know, such as levels with few pairs.
    """

    table: list[dict[str, Any]]
    contrast: dict[str, Any] | None
    charts: list[Chart]
    says: tuple[str, str]
    breaks: list[dict[str, Any]] = field(default_factory=list)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Kind(Protocol):
    """One kind of experiment."""

    @property
    def level(self) -> type[StrictModel]:
        """The settings of a level."""
        ...

    @property
    def stages(self) -> Mapping[str, Stage]:
        """The stages that it brings; names are unique over all kinds."""
        ...

    def plan(
        self, experiment: Experiment, scale: StudyScale, seeds: Sequence[int]
    ) -> dict[tuple[str, int], dict[str, Node]]:
        """Return by level and seed the pieces of work that `analyse` reads, by name.

        What no seed changes is of the first seed.
        """
        ...

    def analyse(
        self, experiment: Experiment, done: Mapping[tuple[str, int], Mapping[str, Done]]
    ) -> Result:
        """Return what was found; `done` has what `plan` asked for, all of it."""
        ...


_Level = TypeVar("_Level", bound=StrictModel)


def level_nodes(
    experiment: Experiment,
    level: type[_Level],
    seeds: Sequence[int],
    nodes: Callable[[_Level, int], dict[str, Node]],
) -> dict[tuple[str, int], dict[str, Node]]:
    """Return the pieces of work of every level for every seed, one seed after the other.

    Args:
        experiment: whose levels are read as `level`.
        level: the settings of a level.
        seeds: in the order in which they are made.
        nodes: returns the pieces of one level for one seed, by name.
    """
    levels = {name: level.model_validate(each) for name, each in experiment.levels.items()}
    return {
        (name, seed): nodes(settings, seed) for seed in seeds for name, settings in levels.items()
    }
