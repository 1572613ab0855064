"""The dataset that a stage's results make: the release's layout and Parquet, provenance beside."""

from __future__ import annotations

import contextlib
import itertools
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from sharegptvideo._io import (
    LatestRows,
    dumps,
    os_errors,
    read_json_object,
    replacing,
    sha256_file,
    write_json,
)
from sharegptvideo._staging import replacing_files
from sharegptvideo.build.report import STAGES, stage_figures
from sharegptvideo.build.stage import Row, Stage
from sharegptvideo.data.publish.shards import SplitWriter
from sharegptvideo.data.schema import Config, config_of, features
from sharegptvideo.data.sources import SPLITS_FILE, SplitRule
from sharegptvideo.data.sources.rows import RowError, check
from sharegptvideo.errors import UserError

if TYPE_CHECKING:
    from datasets import Features

__all__ = [
    "DATASET_FILE",
    "FILES",
    "DatasetReport",
    "dataset_rows",
    "write_dataset",
    "write_rows",
]

FILES = {
    "captions": Path("video_instruction/train/pretrain/video_caption_pretrain.jsonl"),
    "qa": Path("video_instruction/train/qa/video_qa.jsonl"),
    "preferences": Path("video_instruction/train/dpo/sft_dpo.jsonl"),
}
"""Where the rows of a config lie under the output folder, as in the release."""

DATASET_FILE = "dataset.json"
"""The file beside the rows that says, by config, what was written and what was left out."""

_BATCH = 2048


@dataclass(slots=True)
class DatasetReport:
    """What `write_dataset` wrote.

    `n_flagged` rows were flagged by a gate, `flags` counts them by gate (a row can have several);
    `n_left_out` of them are not in the dataset, none with `keep_all`.
    """

    n_rows: int = 0
    n_videos: int = 0
    n_flagged: int = 0
    n_left_out: int = 0
    flags: dict[str, int] = field(default_factory=dict)
    keep_all: bool = False

    def as_dict(self) -> Row:
        """Return the report as plain JSON values."""
        return asdict(self)


def dataset_rows(stage: Stage, out: Path) -> Iterator[Row]:
    """Yield the dataset's rows in the log of a stage that has come to its end."""
    for row in LatestRows(out / f"{stage.name}.jsonl"):
        yield from stage.export(row)


def write_dataset(
    config: str,
    rows: Iterable[Row],
    out: Path,
    *,
    flags: Mapping[str, Sequence[str]] | None = None,
    keep_all: bool = False,
) -> DatasetReport:
    """Write rows as a dataset that `load_dataset(config, data_dir=out)` reads; all files or none.

    Writes `out/FILES[config]`, in the release's form and with `made` beside, the same rows as
    Parquet in `out/CONFIG/SPLIT-*.parquet` with `made` as a struct, and into `out/dataset.json`
    what the report says, the figures of the stages that led to the rows, and the hashes of these
    files: what `data publish` makes a card of. Where both forms are there, the Parquet is loaded.
    All rows are for training, unless `out/splits.json` lists videos for validation; where there is
    none, one with an empty list is written. Rows are taken one by one: memory holds 8 bytes of
    each.

    Args:
        config: "captions", "qa" or "preferences".
        rows: with the config's columns and `made` (see `provenance`).
        out: the folder to write; what else lies there stays.
        flags: by the id of a row, the gates that flagged it. It is left out.
        keep_all: keep flagged rows, with their gates in `made.flags`.

    Raises:
        UserError: a row that breaks the schema, an id that comes twice, or `out` cannot be written.
    """
    with (
        os_errors(out, "free some space or give another --out"),
        replacing_files(out, obsolete=[f"{config}/*.parquet", str(FILES[config])]) as new,
    ):
        return write_rows(config, rows, out, new, flags=flags or {}, keep_all=keep_all)


def write_rows(
    config: str,
    rows: Iterable[Row],
    out: Path,
    new: Path,
    *,
    flags: Mapping[str, Sequence[str]],
    keep_all: bool = False,
) -> DatasetReport:
    """Write the files of `write_dataset` into `new`, from where they take their places in `out`."""
    of = config_of(config)
    report = DatasetReport(keep_all=keep_all)
    ids = array("q")
    with contextlib.ExitStack() as opened:
        files = _Files(of, _split_rule(out, new), new, opened)
        kept = _kept(rows, flags, report)
        while some := list(itertools.islice(kept, _BATCH)):
            checked = [_checked(of, report.n_rows + n, row) for n, row in enumerate(some, start=1)]
            ids.extend(hash(row["id"]) for row in checked)
            report.n_rows += len(checked)
            files.append(checked)
        _check_unique(of, ids)
        report.n_videos = files.close()
    report.flags = dict(sorted(report.flags.items()))
    there = out / DATASET_FILE
    others = read_json_object(there) if there.is_file() else {}
    record = report.as_dict() | {
        "stages": _stages(config, out, new),
        "files": {str(file): sha256_file(new / file) for file in _own_files(config, new)},
    }
    write_json(new / DATASET_FILE, others | {config: record})
    return report


def _own_files(config: str, new: Path) -> list[Path]:
    """Return the files with the rows of a config, by their paths in the folder."""
    paths = [new / FILES[config], *sorted((new / config).glob("*.parquet"))]
    return [path.relative_to(new) for path in paths if path.is_file()]


def _stages(config: str, out: Path, new: Path) -> list[Row]:
    """Return the figures of the stages that led to the rows, as far as they are in the folder."""
    names = STAGES[: STAGES.index(config) + 1]
    folders = ((name, folder) for name in names for folder in (out, new))  # the new one's is later
    there = {name: folder for name, folder in folders if (folder / f"{name}.json").is_file()}
    return [stage_figures(folder, name).facts() for name, folder in there.items()]


def _kept(
    rows: Iterable[Row], flags: Mapping[str, Sequence[str]], report: DatasetReport
) -> Iterator[Row]:
    """Yield the rows that belong into the dataset, each with its flags; count the others."""
    for row in rows:
        gates = list(flags.get(row["id"], ()))
        for gate in gates:
            report.flags[gate] = report.flags.get(gate, 0) + 1
        report.n_flagged += bool(gates)
        if gates and not report.keep_all:
            report.n_left_out += 1
            continue
        yield row | {"made": row["made"] | {"flags": gates}}


def _split_rule(out: Path, new: Path) -> SplitRule:
    """Return the rule of the folder's own list of videos; write an empty one where it has none."""
    if (out / SPLITS_FILE).exists():
        return SplitRule.of(out)
    write_json(new / SPLITS_FILE, {"validation": []})
    return SplitRule(frozenset())


def _checked(config: Config, number: int, raw: Row) -> Row:
    try:
        row = check(config, raw)
    except RowError as error:
        raise UserError(f"{config.name}: row {number} ({raw.get('id')!r}): {error}") from error
    if unknown := raw["made"].keys() - _MADE.keys() - _MADE_OF.get(config.name, {}).keys():
        # Parquet has one set of keys for all rows: what is not in it would be lost.
        raise UserError(f"{config.name}: row {number}: unknown 'made' {', '.join(sorted(unknown))}")
    return row | {"made": raw["made"]}


def _check_unique(config: Config, ids: array[int]) -> None:
    import numpy as np

    if len(np.unique(np.frombuffer(ids, dtype=np.int64))) < len(ids):
        number = next(n for n, count in Counter(ids).items() if count > 1)
        first, second = [place for place, one in enumerate(ids, start=1) if one == number][:2]
        raise UserError(f"{config.name}: rows {first} and {second} have the same id")


class _Files:
    """The files of one config, open for rows."""

    def __init__(
        self, config: Config, rule: SplitRule, new: Path, opened: contextlib.ExitStack
    ) -> None:
        self._config, self._rule, self._new = config, rule, new
        self._opened, self._lines = opened, contextlib.ExitStack()
        self._jsonl: IO[str] | None = None
        self._columns = _with_made(config)
        self._writers = {
            split: opened.enter_context(SplitWriter(config, split, new, columns=self._columns))
            for split in config.splits
        }

    def append(self, rows: Sequence[Row]) -> None:
        """Write some rows, in their order."""
        import pyarrow as pa

        if self._jsonl is None:  # no file is written for no rows
            self._opened.push(self._lines)
            path = self._new / FILES[self._config.name]
            self._jsonl = self._lines.enter_context(replacing(path))
        self._jsonl.writelines(dumps(_release_row(self._config, row)) + "\n" for row in rows)
        for split, writer in self._writers.items():
            own = [row for row in rows if self._rule.split_of(row["video"]) == split]
            writer.append(pa.Table.from_pylist(own, schema=self._columns.arrow_schema))

    def close(self) -> int:
        """Finish the files; return how many different videos the rows name."""
        self._lines.close()
        return sum(writer.close().videos for writer in self._writers.values())


def _release_row(config: Config, row: Row) -> Row:
    """Return a row in the form that the release has of its kind; its other columns beside."""
    asked, said = {"captions": ("prompt", "caption"), "qa": ("question", "answer")}.get(
        config.name, ("", "")
    )
    if not asked:
        return row
    turns = [
        {"from": "human", "value": f"<video>\n{row[asked]}"},
        {"from": "gpt", "value": row[said]},
    ]
    others = {name: value for name, value in row.items() if name not in (asked, said)}
    return {"id": row["id"], "video": row["video"], "conversations": turns} | others


_TEXT, _NUMBER, _REAL = "string", "int64", "float64"
_MADE: dict[str, Any] = {
    "stage": _TEXT,
    "version": _NUMBER,
    "parents": [_TEXT],
    "input": _TEXT,
    "model": _TEXT,
    "answered_by": [_TEXT],
    "prompt_version": _NUMBER,
    "prompt_hash": _TEXT,
    "sampling": {
        "temperature": _REAL,
        "top_p": _REAL,
        "max_new_tokens": _NUMBER,
        "seed": _NUMBER,
    },
    "frame_indices": [_NUMBER],
    "tokens": {"prompt": _NUMBER, "cached": _NUMBER, "completion": _NUMBER},
    "dollars": _REAL,
    "requests": _NUMBER,
    "attempts": _NUMBER,
    "engine": _TEXT,
    "package_version": _TEXT,
    "flags": [_TEXT],
}
"""Types of `made`: the keys of `provenance`, and `flags`."""

_MADE_OF: dict[str, dict[str, Any]] = {
    "qa": {"kind": _TEXT, "difficulty": _TEXT},
    "preferences": {"threshold": _REAL},
}
"""Those that the rows of a config have beside them."""


def _with_made(config: Config) -> Features:
    """Return the columns of a config, with `made`."""
    from datasets import Features, List, Value

    def feature(kind: Any) -> Any:
        if isinstance(kind, list):
            return List(Value(kind[0]))
        if isinstance(kind, dict):
            return {name: feature(one) for name, one in kind.items()}
        return Value(kind)

    made = feature(_MADE | _MADE_OF.get(config.name, {}))
    return Features(features(config.name) | {"made": made})
