"""The end of a stage: its rows through the quality gates, and into the dataset of its folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

from sharegptvideo._concurrency import Progress
from sharegptvideo.build.gates import GateReport, GateSettings, check_rows, write_gates
from sharegptvideo.build.outputs import DatasetReport, dataset_rows, write_dataset
from sharegptvideo.build.stage import Stage

__all__ = ["FinishOptions", "finish_stage"]


@dataclass(frozen=True, slots=True)
class FinishOptions:
    """What is left out of a dataset.

    Attributes:
        gates: the quality gates that rows go through.
        against: folders with test sets, whose clips and texts are leaks.
        media: folders with the clips of the rows and of the test sets.
        keep_all: keep rows that a gate flags, marked.
    """

    gates: GateSettings = field(default_factory=GateSettings)
    against: Sequence[Path] = ()
    media: Sequence[Path] = ()
    keep_all: bool = False


def finish_stage(
    stage: Stage, out: Path, options: FinishOptions, progress: Progress | None = None
) -> tuple[GateReport, DatasetReport]:
    """Make a dataset of what a stage has made; `load_dataset(stage.name, data_dir=out)` reads it.

    Writes what `write_gates` and `write_dataset` write. Call it where the stage has made a row.

    Args:
        stage: `captions` or `qa`, whose log lies in `out`.
        out: the folder.
        options: what is left out.
        progress: called with (done, total, what).

    Raises:
        UserError: see `check_rows`; a row that no dataset can hold; the folder cannot be written.
    """
    report = check_rows(
        cast(Literal["captions", "qa"], stage.name),
        dataset_rows(stage, out),
        settings=options.gates,
        against=options.against,
        media=options.media,
        progress=progress,
    )
    write_gates(out, stage.name, report)
    flags = {row.id: row.gates for row in report.flagged}
    rows = dataset_rows(stage, out)
    return report, write_dataset(stage.name, rows, out, flags=flags, keep_all=options.keep_all)
