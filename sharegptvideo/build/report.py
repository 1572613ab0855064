"""What a folder of building holds and what it cost, by stage and model, from the files alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sharegptvideo._io import LatestRows, dumps, read_json_object, read_jsonl
from sharegptvideo.build.engines.run import SITTINGS
from sharegptvideo.build.stage import Row
from sharegptvideo.endpoint.store import ReplyStore
from sharegptvideo.errors import UserError

__all__ = ["STAGES", "BuildReport", "ModelFigures", "StageFigures", "read_report", "stage_figures"]

STAGES = ("captions", "qa", "candidates", "rewards", "preferences")
"""The stages in the order in which each starts from the one before."""

_TOKENS = ("prompt", "cached", "completion")


@dataclass(slots=True)
class ModelFigures:
    """What one model did in a stage: asked for as `model`, `answered_by` as its server says.

    `tokens` are those of prompts, of these from a prefix cache, and of answers, as far as servers
    say; `dollars` is None where no price is known.
    """

    model: str | None
    answered_by: list[str] = field(default_factory=list)
    rows: int = 0
    failed: int = 0
    tokens: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_TOKENS, 0))
    dollars: float | None = None
    attempts: int = 0

    def count(self, row: Row) -> None:
        """Add a row of the log."""
        made = row["made"]
        self.rows += 1
        self.failed += row["error"] is not None
        self.attempts += made["attempts"]
        for name in _TOKENS:
            self.tokens[name] += made["tokens"][name] or 0
        if made["dollars"] is not None:
            self.dollars = (self.dollars or 0.0) + made["dollars"]


@dataclass(slots=True)
class StageFigures:
    """What the log of a stage holds, all sittings together.

    `n_rows` inputs have a line, `n_failed` of them without a result, by cause in `failures`.
    `dropped` counts what was made and not kept, by cause.
    `provenance` counts rows by the values of prompt, sampling, frames, engine and package version.
    `report` is what the stage itself says at its end, None before; `gates` what its gates say.
    `seconds` is the time of sittings, less that of `n_killed` ones (killed, or at work now), which
    is not known. `total` is how many inputs there are, None where that is not known.
    """

    stage: str
    n_rows: int = 0
    n_failed: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    models: list[ModelFigures] = field(default_factory=list)
    provenance: dict[str, dict[str, int]] = field(default_factory=dict)
    settings: Row | None = None
    report: Row | None = None
    gates: Row | None = None
    seconds: float = 0.0
    n_sittings: int = 0
    n_killed: int = 0
    total: int | None = None

    @property
    def is_finished(self) -> bool:
        """Whether the stage came to its end."""
        return self.report is not None

    @property
    def dollars(self) -> float | None:
        """US dollars of all models; None where no price is known."""
        return total_dollars(self.models)

    def tokens(self, name: str) -> int:
        """Return the tokens of all models: "prompt", "cached" or "completion"."""
        return sum(model.tokens[name] for model in self.models)

    @property
    def ahead(self) -> Row | None:
        """What is still to be made, if it is as what was made; None where nothing is, or unknown.

        Rows, tokens, and dollars and seconds where they are known.
        """
        if self.is_finished or self.total is None:
            return None
        rows = max(0, self.total - self.n_rows + self.n_failed)
        share = rows / self.n_rows if self.n_rows else None
        known = {
            "tokens": self.tokens("prompt") + self.tokens("completion"),
            "dollars": self.dollars,
            "seconds": None if self.n_killed else self.seconds,
        }
        more = {
            name: None if each is None or share is None else each * share
            for name, each in known.items()
        }
        return {"rows": rows} | more

    def facts(self) -> Row:
        """Return the figures without times, which differ from run to run."""
        times = ("seconds", "n_sittings", "n_killed", "total")
        return {name: each for name, each in asdict(self).items() if name not in times}

    def as_dict(self) -> Row:
        """Return the figures as plain JSON values."""
        return asdict(self) | {"is_finished": self.is_finished, "ahead": self.ahead}


@dataclass(slots=True)
class BuildReport:
    """The figures of all stages of a folder.

    `dataset` is what was written of each config, see `DatasetReport`; `replies` is what the
    folder's store has: their `count`, how many were `paid` for (the others came from the user's
    cache), `tokens` and `dollars` of these. Failed replies are not in it; and the figures of stages
    hold the last try of a row alone, so that either can be the larger one.
    """

    out: str
    stages: list[StageFigures]
    dataset: Row
    replies: Row

    @property
    def totals(self) -> Row:
        """Tokens, dollars and seconds of all stages together."""
        return {
            "tokens": {name: sum(one.tokens(name) for one in self.stages) for name in _TOKENS},
            "dollars": total_dollars(model for one in self.stages for model in one.models),
            "seconds": round(sum(one.seconds for one in self.stages), 3),
        }

    def as_dict(self) -> Row:
        """Return the report as plain JSON values."""
        return {
            "out": self.out,
            "stages": [one.as_dict() for one in self.stages],
            "dataset": self.dataset,
            "replies": self.replies,
            "totals": self.totals,
        }


def total_dollars(models: Iterable[ModelFigures]) -> float | None:
    """Return the US dollars of some models; None where no price is known of any."""
    known = [model.dollars for model in models if model.dollars is not None]
    return sum(known) if known else None


def read_report(out: Path) -> BuildReport:
    """Read what the stages in `out` hold; also while one of them is at work.

    Raises:
        UserError: no folder, no stage in it, or a broken file.
    """
    there = [name for name in STAGES if _has(out, name)]
    if not there:
        raise UserError(
            f"{out}: no stage of building is here; `sharegptvideo build --help` lists them"
        )
    dataset = out / "dataset.json"
    return BuildReport(
        str(out),
        [stage_figures(out, name) for name in there],
        read_json_object(dataset) if dataset.is_file() else {},
        _replies(ReplyStore(out / "replies")),
    )


def _replies(store: ReplyStore) -> Row:
    count = paid = tokens = 0
    cost: float | None = None
    for _, reply in store:
        count += 1
        if not reply.cached:
            paid += 1
            tokens += reply.tokens
            cost = cost if reply.dollars is None else (cost or 0.0) + reply.dollars
    return {"count": count, "paid": paid, "tokens": tokens, "dollars": cost}


def _has(out: Path, name: str) -> bool:
    return (out / f"{name}.json").is_file()


def stage_figures(out: Path, name: str) -> StageFigures:
    """Count what the log of a stage holds; a line that is still being written is left out.

    Raises:
        UserError: a broken file.
    """
    figures = StageFigures(name)
    notes = read_json_object(out / f"{name}.json")
    if "settings" in notes:
        figures.settings, figures.report = notes["settings"], notes.get("report")
    else:  # of a step that is done at once: pairs of items
        figures.report, figures.n_rows = notes, int(notes.get("n_items", 0))
    gates = out / f"{name}_gates.json"
    figures.gates = read_json_object(gates) if gates.is_file() else None
    _read_sittings(figures, out / SITTINGS)
    log = out / f"{name}.jsonl"
    if log.is_file():
        _count(figures, LatestRows(log))
    return figures


def _count(figures: StageFigures, rows: Iterable[Row]) -> None:
    failures, dropped, provenance = Counter[str](), Counter[str](), dict[str, Counter[str]]()
    models: dict[str | None, ModelFigures] = {}
    answered: dict[str | None, Counter[str]] = {}
    for row in rows:
        figures.n_rows += 1
        if row["error"] is not None:
            failures[row["error"]] += 1
        dropped.update(each["gate"] for each in row.get("dropped") or ())
        made = row.get("made")
        if made is None:  # of an earlier version
            continue
        model = made["model"]
        models.setdefault(model, ModelFigures(model)).count(row)
        answered.setdefault(model, Counter()).update(made["answered_by"])
        for key, value in _shared(made):
            provenance.setdefault(key, Counter())[value] += 1
    figures.failures = dict(failures.most_common())
    figures.n_failed, figures.dropped = failures.total(), dict(dropped.most_common())
    for model, names in answered.items():
        models[model].answered_by = [name for name, _ in names.most_common()]
    figures.models = list(models.values())
    figures.provenance = {key: dict(values.most_common()) for key, values in provenance.items()}


def _shared(made: Row) -> Iterator[tuple[str, str]]:
    """Yield what many rows have alike, by name."""
    if made["prompt_hash"] is not None:
        yield "prompt", f"version {made['prompt_version']}, hash {made['prompt_hash']}"
    if made["sampling"]:
        yield "sampling", dumps({k: v for k, v in made["sampling"].items() if v is not None})
    if made["frame_indices"] is not None:
        yield "frames", str(len(made["frame_indices"]))
    yield "engine", made["engine"]
    yield "package_version", made["package_version"]


def _read_sittings(figures: StageFigures, file: Path) -> None:
    if not file.is_file():
        return
    own = [line for _, line in read_jsonl(file) if line["stage"] == figures.stage]
    begun = [line for line in own if "seconds" not in line]
    figures.n_sittings = len(begun)
    figures.n_killed = 2 * len(begun) - len(own)  # the one at work now counts, too
    figures.seconds = round(sum(line.get("seconds", 0.0) for line in own), 3)
    figures.total = begun[-1]["total"] if begun else None
