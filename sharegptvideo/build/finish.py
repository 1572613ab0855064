"""The end of a stage: its rows through the quality gates, and into the dataset of its folder."""

from __future__ import annotations

from pathlib import Path

from sharegptvideo.build.outputs import DatasetReport, dataset_rows, write_dataset
from sharegptvideo.build.stage import Stage

__all__ = ["finish_stage"]


def finish_stage(stage: Stage, out: Path, *, keep_all: bool = False) -> DatasetReport:
    """Make a dataset of what a stage has made; `load_dataset(stage.name, data_dir=out)` reads it.

    Args:
        stage: `captions` or `qa`, whose log lies in `out`.
        out: the folder.
        keep_all: keep rows that a gate flags, marked.

    Raises:
        UserError: a row that no dataset can hold, or the folder cannot be written.
    """
    return write_dataset(stage.name, dataset_rows(stage, out), out, keep_all=keep_all)
