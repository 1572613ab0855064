"""Rows read from Parquet as they are needed: `data.stream`.

Before the first step the files are read once, a few thousand rows at a time, and of each row no
more is kept than whether it is trained on, about how long it is and a number for its clip: 20
bytes. So missing clips and wrong rows are reported then, not in the third night. Rows themselves
are read row group by row group and tokenised when their batch is made.

Why rows have numbers, and are not a stream with a state of its own: their order is then a function
of seed and epoch alone, as without streaming. Processes and loader workers take every n-th batch
of one order, so that what they see is disjoint and complete; a resume skips numbers, and reads
nothing that came before.
"""

from __future__ import annotations

import copy
import hashlib
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset

from sharegptvideo._io import read_json, replacing_bytes, write_json
from sharegptvideo._text import and_more
from sharegptvideo.data.media_paths import MediaPaths
from sharegptvideo.data.schema import config_of
from sharegptvideo.data.sources import ReadReport, Row
from sharegptvideo.data.sources.parquet import ParquetSource, read_batches
from sharegptvideo.errors import UserError
from sharegptvideo.training.examples import (
    DataReport,
    preference_example,
    refuse_equal,
    refuse_missing,
    sft_example,
)
from sharegptvideo.training.launch import processes
from sharegptvideo.training.recipes import DpoRecipe
from sharegptvideo.training.sampling import EpochSampler, row_order

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from sharegptvideo.training.families import Family
    from sharegptvideo.training.recipes import DataSource, LengthLimit, Recipe, RowOrder

__all__ = ["ByWindow", "Plan", "StreamedRows", "streamed_rows"]

_BYTES_A_TOKEN = 4  # of English text; to put rows of like length together
_WINDOW = 8  # row groups mixed with one another: 64 MB of text as `data publish` cuts them


@dataclass(frozen=True, slots=True)
class Plan:
    """Where the rows lie that are trained on.

    Attributes:
        files: Parquet files, in the order in which rows are numbered.
        group_of: groups×2, the file of a row group and its number in there.
        starts: groups + 1 numbers of rows, where each group begins.
        rows: the numbers of the rows trained on, ascending.
        lengths: of those rows, in tokens, about.
        clips: of those rows, a number for the clip.
    """

    files: tuple[str, ...]
    group_of: NDArray[np.int32]
    starts: NDArray[np.int64]
    rows: NDArray[np.int64]
    lengths: NDArray[np.int32]
    clips: NDArray[np.int64]

    def of_group(self, group: int) -> range:
        """Return the places in `rows` of what lies in a row group."""
        first, last = np.searchsorted(self.rows, self.starts[group : group + 2])
        return range(int(first), int(last))


def streamed_rows(
    recipe: Recipe, family: Family, folder: Path, *, limit: LengthLimit
) -> tuple[StreamedRows, DataReport]:
    """Return the recipe's rows, by a plan that the first process makes and keeps in `folder`.

    Raises:
        UserError: the source is no Parquet; something that needs all rows at once is asked for;
            and what `sft_dataset` and `preference_dataset` refuse.
    """
    _check_asked(recipe)
    group = processes()
    source = _parquet(recipe.data)
    identity = _identity(source, recipe.data)
    file, about = folder / "plan.npz", folder / "plan.json"
    group.wait()  # all have looked at the run's folder before the first one writes to it

    def scan() -> None:
        if about.exists() and read_json(about)["sha256"] == identity:
            return  # a resume: the rows that it began with
        plan, report = _scan(recipe, family, source, limit)
        report.sha256 = identity
        arrays = {name: value for name, value in asdict(plan).items() if name != "files"}
        with replacing_bytes(file) as out:
            np.savez(out, files=np.array(plan.files), **arrays)
        write_json(about, asdict(report))

    group.first(scan)
    with np.load(file) as stored:
        arrays = {name: stored[name] for name in stored.files}
    plan = Plan(files=tuple(map(str, arrays.pop("files"))), **arrays)
    return StreamedRows(plan, recipe, family, limit), DataReport(**read_json(about))


def _check_asked(recipe: Recipe) -> None:
    whole = {
        "features.enabled=false": recipe.features.enabled,
        "sharing.pack_tokens=null": recipe.sharing.pack_tokens is not None,
        "dpo.reference=model": isinstance(recipe, DpoRecipe)
        and recipe.dpo.reference == "precomputed",
    }
    if wrong := [fix for fix, asked in whole.items() if asked]:
        raise UserError(
            f"data.stream reads rows as they are needed, and what is asked for needs all of them "
            f"before the first step: set {', '.join(wrong)}, or data.stream=false"
        )


def _name(data: DataSource) -> str:
    if data.name is None:
        raise UserError("data.stream reads one config: give data.name, or set data.stream=false")
    if "video" not in config_of(data.name).columns:
        raise UserError(
            f"data.stream reads rows about clips, and {data.name} has none; set data.stream=false"
        )
    return data.name


def _parquet(data: DataSource) -> ParquetSource:
    config = config_of(_name(data))
    root = None if data.data_dir is None else Path(data.data_dir).expanduser()
    if root is None or not ParquetSource.holds(root, config):
        raise UserError(
            f"data.stream needs Parquet, and data.data_dir {data.data_dir} has no "
            f"{data.name}/*.parquet; make it with `sharegptvideo data publish SOURCE --dry-run "
            f"FOLDER` and give data.data_dir=FOLDER, or set data.stream=false"
        )
    if data.files is not None:
        raise UserError(f"data.files {data.files!r} takes files of the release, not Parquet")
    return ParquetSource(root)


def _paths(source: ParquetSource, data: DataSource) -> list[Path]:
    config = config_of(_name(data))
    return [path for split in data.split.split("+") for path in source.paths(config, split.strip())]


def _identity(source: ParquetSource, data: DataSource) -> str:
    """SHA-256 over names, sizes and footers, which hold sizes and bounds of all columns."""
    import pyarrow.parquet as pq

    digest = hashlib.sha256()
    for path in _paths(source, data):
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        digest.update(repr(pq.read_metadata(path).to_dict()).encode())
    return digest.hexdigest()


def _scan(
    recipe: Recipe, family: Family, source: ParquetSource, limit: LengthLimit
) -> tuple[Plan, DataReport]:
    data, report = recipe.data, DataReport()
    paths = _paths(source, data)
    groups, starts = _row_groups(paths)
    survey = _Survey(recipe, family, report, limit)
    parts = []
    before, wanted = 0, data.limit or int(starts[-1])
    for split in data.split.split("+"):
        tables = source.tables(config_of(_name(data)), [split.strip()], "raise", ReadReport())
        for _, table in tables:
            table = table.slice(0, max(wanted - before, 0))
            if table.num_rows:
                parts.append(survey(table, before))
            before += table.num_rows
    survey.refuse()
    rows, lengths, clips = (np.concatenate(some) for some in zip(*parts, strict=True))
    if not len(rows):
        raise UserError(f"data {data} ({data.split}): no rows to train on")
    report.used = len(rows)
    return Plan(tuple(map(str, paths)), groups, starts, rows, lengths, clips), report


class StreamedRows(Dataset[dict[str, Any]]):
    """Examples by number, made when they are asked for; the row groups read last are kept.

    Can be pickled for loader workers: without weights, and without what was read.
    """

    def __init__(self, plan: Plan, recipe: Recipe, family: Family, limit: LengthLimit) -> None:
        self.plan = plan
        self._data = recipe.data
        self._make = preference_example if isinstance(recipe, DpoRecipe) else sft_example
        self._together = recipe.sharing.video and not isinstance(recipe, DpoRecipe)
        self._family = copy.copy(family)  # for its tokenizer and reader
        self._family.model = None
        self._limit = limit
        self._media = MediaPaths(str(recipe.data.media), False)
        self._tables: OrderedDict[int, pa.Table] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tables": OrderedDict()}

    def __len__(self) -> int:
        return len(self.plan.rows)

    def __getitem__(self, number: int) -> dict[str, Any]:
        """Return the example of `sft_dataset` or `preference_dataset`, without its length."""
        row = self._row(number)
        row["video_path"] = self._media.find(row["video"], ReadReport())
        if row["video_path"] is None:
            raise UserError(f"data {self._data} row {row['id']}: its clip is gone")
        content, (prompt, _) = self._make(self._family, row)
        clip = self._family.reader.count(row["video_path"])
        if prompt + clip - 1 >= self._limit.positions(clip):
            raise UserError(
                f"optimisation.max_length {self._limit.tokens}: row {row['id']} has no room for an "
                f"answer after its clip and prompt"
            )
        return {"video_path": str(row["video_path"]), "image_path": None, **content}

    def first(self) -> Any:
        """Return the first example, as a table of one row (`datasets.Dataset`)."""
        from datasets import Dataset as Table

        return Table.from_list([self[0]])

    def sampler(self, batch: int, seed: int) -> ByWindow:
        """Return the order in which the rows are trained on."""
        return ByWindow(self.plan, batch, seed, order=self._data.order, together=self._together)

    def _row(self, number: int) -> Row:
        row = int(self.plan.rows[number])
        group = int(np.searchsorted(self.plan.starts, row, side="right")) - 1
        if group in self._tables:
            self._tables.move_to_end(group)
        else:
            self._tables[group] = self._group(group)
            if len(self._tables) > _WINDOW + 1:  # the last rows of a window go with the next one
                self._tables.popitem(last=False)
        content: Row = (
            self._tables[group].slice(row - int(self.plan.starts[group]), 1).to_pylist()[0]
        )
        return content

    def _group(self, group: int) -> pa.Table:
        import pyarrow as pa

        file, inside = self.plan.group_of[group].tolist()
        path = self.plan.files[file]
        try:
            batches = list(read_batches(Path(path), config_of(_name(self._data)), [inside]))
        except UserError as error:
            cause = str(error).removeprefix(f"{path}: ")
            raise UserError(f"{path}: cannot be read any more ({cause})", exit_code=1) from error
        if any(batch.refused for batch in batches):
            raise UserError(f"{path}: changed since the first step", exit_code=1)
        return pa.concat_tables([batch.table for batch in batches])


class ByWindow(EpochSampler):
    """Row groups in random order, the rows of every eight of them mixed as `row_order` does.

    Depends on nothing but plan, seed and epoch. Only eight row groups are read at any time.
    """

    def __init__(
        self, plan: Plan, batch: int, seed: int, *, order: RowOrder = "by_length", together: bool
    ) -> None:
        super().__init__(len(plan.rows), seed)
        self._plan = plan
        self._batch = batch
        self._order = order
        self._together = together

    def __iter__(self) -> Iterator[int]:
        plan, seed = self._plan, self._seed * 1_000_003 + self._epoch
        groups = torch.randperm(
            len(plan.group_of), generator=torch.Generator().manual_seed(seed)
        ).tolist()
        over: list[int] = []  # what fills no batch goes with the next window
        for window in range(0, len(groups), _WINDOW):
            rows = [n for group in groups[window : window + _WINDOW] for n in plan.of_group(group)]
            clips = [str(code) for code in plan.clips[rows].tolist()]
            order = row_order(
                self._order,
                plan.lengths[rows].tolist(),
                self._batch,
                seed + window,
                clips=clips if self._together else None,
            )
            drawn = [rows[place] for place in order]
            whole = len(drawn) - len(drawn) % self._batch
            yield from drawn[:whole]
            over += drawn[whole:]
            if len(over) >= self._batch:
                yield from over[: self._batch]
                over = over[self._batch :]
        yield from over


def _row_groups(paths: list[Path]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """`group_of` and `starts` of a `Plan`, from the footers of its files."""
    import pyarrow.parquet as pq

    groups, sizes = [], []
    for number, path in enumerate(paths):
        footer = pq.read_metadata(path)
        for group in range(footer.num_row_groups):
            groups.append((number, group))
            sizes.append(footer.row_group(group).num_rows)
    return (
        np.array(groups, dtype=np.int32).reshape(-1, 2),
        np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]),
    )


class _Survey:
    """What is known of rows without tokenising them, but for those that may be too long."""

    def __init__(
        self, recipe: Recipe, family: Family, report: DataReport, limit: LengthLimit
    ) -> None:
        self._data = recipe.data
        self._equal = recipe.dpo.equal_pairs if isinstance(recipe, DpoRecipe) else None
        self._make = preference_example if isinstance(recipe, DpoRecipe) else sft_example
        self._family = family
        self._media = None if recipe.data.media is None else MediaPaths(recipe.data.media, False)
        self._report = report
        self._limit = limit
        self._clip = family.reader.video_tokens
        # No token stands for less than a byte of text; the template's own are beside it.
        ids, _ = family.encode([{"role": "user", "content": "a"}])
        self._template = len(ids) + 16
        self._too_long: list[str] = []
        self._absent = ReadReport()  # by video; what is reported is by row

    def __call__(
        self, table: pa.Table, before: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
        """Numbers, lengths and clips of the rows to train on; `before` rows came earlier."""
        coded = table["video"].combine_chunks().dictionary_encode()
        names = coded.dictionary.to_pylist()
        there = np.array([self._has_clip(name) for name in names] + [False])
        codes = np.array([zlib.crc32(name.encode()) for name in names] + [0], dtype=np.int64)
        at = coded.indices.fill_null(len(names)).to_numpy()  # a row that names no clip
        keep = there[at]
        for row in np.flatnonzero(~keep).tolist():
            clip = table["video"][row].as_py() or "not about a clip"
            self._report.missing.append(f"{table['id'][row]} ({clip})")
        if self._equal is not None:
            keep &= self._differing(table)
        total, prompt = _text_bytes(table)
        room = self._limit.positions(self._clip) - self._template - self._clip
        for row in np.flatnonzero(keep & (prompt >= room)).tolist():
            self._measure(table.slice(row, 1).to_pylist()[0])
        kept = np.flatnonzero(keep)
        lengths = (total // _BYTES_A_TOKEN + self._clip).astype(np.int32)
        return kept + before, lengths[kept], codes[at][kept]

    def _has_clip(self, video: str) -> bool:
        return self._media is not None and self._media.find(video, self._absent) is not None

    def _differing(self, table: pa.Table) -> NDArray[np.bool_]:
        import pyarrow.compute as pc

        sides = [pc.utf8_trim_whitespace(table[side]) for side in ("chosen", "rejected")]
        differ: NDArray[np.bool_] = pc.not_equal(*sides).to_numpy()
        for row in np.flatnonzero(~differ).tolist():
            self._report.equal.append(str(table["id"][row]))
        return differ

    def _measure(self, row: Row) -> None:
        _, (prompt, _) = self._make(self._family, row)
        if prompt + self._clip - 1 >= self._limit.positions(self._clip):
            self._too_long.append(str(row["id"]))

    def refuse(self) -> None:
        """Raise UserError for what the recipe does not allow."""
        refuse_missing(self._data, self._report)
        refuse_equal(self._data, self._equal, self._report)
        if self._too_long:
            raise UserError(
                f"optimisation.max_length {self._limit.tokens}: {len(self._too_long)} rows have no "
                f"room for an answer after their clip and prompt: {and_more(self._too_long)}"
            )


def _text_bytes(table: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each row the bytes of all its texts that are trained on, and of its first prompt."""
    import pyarrow.compute as pc

    if "messages" in table.column_names:
        turns = table["messages"].combine_chunks()
        sizes = pc.binary_length(pc.struct_field(turns.flatten(), "content")).to_numpy()
        ends = np.concatenate([[0], np.cumsum(sizes)])
        counts = turns.value_lengths().to_numpy()
        offsets = np.concatenate([[0], np.cumsum(counts)])
        return ends[offsets[1:]] - ends[offsets[:-1]], sizes[offsets[:-1]]
    names = [n for n in ("prompt", "question", "chosen", "rejected") if n in table.column_names]
    if "chosen" not in names:
        names += [n for n in ("answer", "caption") if n in table.column_names]
    # A row of QA may have no caption; it is not trained on there.
    parts = [pc.fill_null(pc.binary_length(table[name]), 0).to_numpy() for name in names]
    return np.sum(parts, axis=0, dtype=np.int64), parts[0].astype(np.int64)
