"""What a study's folder holds of its experiments, and the verdicts on their declared contrasts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sharegptvideo._io import read_json, read_json_object
from sharegptvideo._text import plural
from sharegptvideo.errors import UserError, field_problems
from sharegptvideo.eval.statistics import holm

__all__ = [
    "Chart",
    "Declared",
    "Entry",
    "Experiment",
    "Figures",
    "Results",
    "Verdict",
    "Work",
    "read_study",
]

_ALPHA = 0.05

Row = Mapping[str, Any]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
"""Of a file."""


class _Read(BaseModel):
    """Contents of a file; keys that the report does not show may be there."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class Declared(_Read):
    """The comparison that was declared before the experiment was run."""

    of: str
    against: str = ""
    expect: Literal["less", "more", "no_effect"]
    refuted_by: str


class Experiment(_Read):
    """What the experiment's file says."""

    name: Name
    number: int
    title: str
    question: str
    figure: str
    seeds: int
    levels: Mapping[str, Any] = {}
    contrast: Declared
    notes: tuple[str, ...] = ()


class Figures(_Read):
    """The declared contrast's figures; shares, and None where one seed or none gives no spread."""

    of: str
    against: str = ""
    expect: Literal["less", "more", "no_effect"]
    value: float | None
    se: float | None = None
    ci95: tuple[float, float] | None = None
    ci95_bootstrap: tuple[float, float] | None = None
    p_value: float | None = None
    p_equivalence: float | None = None
    seed_sd: float | None = None
    n_seeds: int
    holds: bool | None = None
    seeds_needed: int | None = None


class Chart(_Read):
    """How a table is drawn; the fields are columns."""

    form: Literal["points", "lines"]
    x: str
    y: str
    x_title: str = ""
    y_title: str = ""
    low: str | None = None
    high: str | None = None
    series: str | None = None
    unit: str = "points"
    log_x: bool = False


class Results(_Read):
    """One file of `results/`."""

    experiment: Experiment
    scale: str
    seeds: tuple[int, ...]
    table: tuple[Row, ...]
    contrast: Figures | None
    charts: tuple[Chart, ...]
    says: tuple[str, ...]
    breaks: tuple[Row, ...] = ()
    tables: Mapping[Name, tuple[Row, ...]] = {}
    notes: tuple[str, ...] = ()
    seconds: Mapping[str, float] = {}
    pieces: Mapping[str, int] = {}
    machine: Mapping[str, Any] = {}
    version: str | None = None
    versions: Mapping[str, Any] = {}
    commit: str | None = None

    @model_validator(mode="after")
    def _drawable(self) -> Results:
        for chart in self.charts:
            for column in filter(None, (chart.y, chart.low, chart.high)):
                _check_numbers(f"column {column} of the table", column, self.table)
            for column in filter(None, (chart.x, chart.series)):
                if any(column not in row for row in self.table):
                    raise ValueError(f"the table has no column {column}, which a chart is to show")
        for column in ("kappa", "gain", "low", "high"):
            _check_numbers(f"{column} of breaks", column, self.breaks)
        if any("level" not in row for row in self.breaks):
            raise ValueError("a row of breaks has no level")
        return self


def _check_numbers(what: str, column: str, rows: Iterable[Row]) -> None:
    for row in rows:
        if column not in row:
            raise ValueError(f"{what} is missing")
        if row[column] is not None and (
            isinstance(row[column], bool) or not isinstance(row[column], int | float)
        ):
            raise ValueError(f"{what} must be a number, not {row[column]!r}")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a declared contrast shows after the correction for all that were declared.

    Attributes:
        outcome: `supported`, `refuted` or `open`.
        p_value: against zero, after Holm; None where there was no test.
        p_equivalence: against a true value of 3 points or more, after Holm.
        before: the outcome without the correction, where that was another one.
        small: whether a difference in the declared direction is shown to be below 3 points.
    """

    outcome: str
    p_value: float | None
    p_equivalence: float | None
    before: str | None
    small: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """One experiment of the study; without results it was not run.

    `changed` says that its file has come to declare another contrast since it was run.
    """

    experiment: Experiment
    results: Results | None
    verdict: Verdict | None
    changed: bool

    @property
    def state(self) -> str:
        """How much of what the experiment's file asks for was run."""
        if self.results is None:
            return "not run"
        run, asked = len(self.results.seeds), self.experiment.seeds
        state = plural(run, "seed") if run >= asked else f"{run} of {plural(asked, 'seed')}"
        return state if self.results.scale == "small" else f"{state}, scale {self.results.scale}"


@dataclass(frozen=True, slots=True)
class Work:
    """All pieces of work that a study's folder keeps, each once: their number and seconds."""

    pieces: int
    seconds: float


def read_study(
    study: Path, declared: Sequence[Mapping[str, Any]] = ()
) -> tuple[list[Entry], Work | None]:
    """Read `study/results/*.json` and the work that is kept beside them.

    Args:
        study: the folder of `study run`.
        declared: the contents of experiments' files; those without results come without.

    Returns:
        Experiments in the order of their numbers, each as it was when it was run, and the work;
        None where the folder has no pieces.

    Raises:
        UserError: no such folder, no results, or a file that is broken.
    """
    if not study.is_dir():
        raise UserError(f"{study}: no such folder; give the --out of `sharegptvideo study run`")
    files = sorted((study / "results").glob("*.json"))
    if not files:
        raise UserError(
            f"{study}: no results; first run sharegptvideo study run NAME --out {study}"
        )
    results = {file.stem: _read(file) for file in files}
    files_say = {each["name"]: Experiment.model_validate(each) for each in declared}
    experiments = files_say | {name: each.experiment for name, each in results.items()}
    order = sorted(experiments.values(), key=lambda each: (each.number, each.name))
    verdicts = _verdicts(
        {each.name: results[each.name].contrast if each.name in results else None for each in order}
    )
    entries = []
    for each in order:
        changed = files_say.get(each.name, each).contrast != each.contrast
        entries.append(Entry(each, results.get(each.name), verdicts.get(each.name), changed))
    return entries, _work(study / "stages")


def _read(file: Path) -> Results:
    content = read_json(file, finite=True)
    again = "run this experiment again; its finished pieces of work are kept"
    try:
        results = Results.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{file}: {'; '.join(field_problems(error))}; {again}") from error
    if results.experiment.name != file.stem:
        raise UserError(
            f"{file}: these are the results of {results.experiment.name}; name the file"
            f" {results.experiment.name}.json"
        )
    return results


def _work(stages: Path) -> Work | None:
    taken = [
        float(read_json_object(file).get("seconds") or 0.0)
        for file in sorted(stages.glob("*/done.json"))
    ]
    return Work(len(taken), sum(taken)) if taken else None


def _verdicts(contrasts: Mapping[str, Figures | None]) -> dict[str, Verdict]:
    """Judge all declared contrasts that have figures, at a level that holds for all at once.

    Tests against zero and tests of equivalence are corrected each over all contrasts.
    """
    known = {name: each for name, each in contrasts.items() if each is not None}
    corrected = holm([each.p_value for each in known.values()])
    equal = holm([each.p_equivalence for each in known.values()])
    verdicts = {}
    for (name, each), p, q in zip(known.items(), corrected, equal, strict=True):
        before = _outcome(each, each.p_value, each.p_equivalence)
        outcome = _outcome(each, p, q)
        small = outcome == "supported" and each.expect != "no_effect" and _below(q)
        verdicts[name] = Verdict(outcome, p, q, before if before != outcome else None, small)
    return verdicts


def _outcome(contrast: Figures, p_value: float | None, p_equivalence: float | None) -> str:
    """Return what two p-values, before or after a correction, say about the declared claim."""
    differs, within = _below(p_value), _below(p_equivalence)
    if p_value is None and p_equivalence is None:  # no test over seeds: the experiment's own word
        return {True: "supported", False: "refuted", None: "open"}[contrast.holds]
    if contrast.expect == "no_effect":
        return "supported" if within else "refuted" if differs else "open"
    if differs and contrast.value is not None:
        return "supported" if (contrast.value < 0) == (contrast.expect == "less") else "refuted"
    return "refuted" if within else "open"


def _below(p_value: float | None) -> bool:
    return p_value is not None and p_value < _ALPHA
