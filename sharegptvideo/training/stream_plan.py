"""What is known of streamed rows before any is read: which are trained on, and where they lie."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sharegptvideo._text import and_more
from sharegptvideo.data.media_paths import MediaPaths
from sharegptvideo.data.sources import ReadReport, Row
from sharegptvideo.errors import UserError
from sharegptvideo.training.examples import (
    DataReport,
    preference_example,
    refuse_equal,
    refuse_missing,
    sft_example,
)
from sharegptvideo.training.recipes import DpoRecipe

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from sharegptvideo.training.families import Family
    from sharegptvideo.training.recipes import Recipe

__all__ = ["Look", "Plan", "row_groups", "text_bytes"]

_BYTES_A_TOKEN = 4  # of English text; to put rows of like length together


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
        """The places in `rows` of what lies in a row group."""
        first, last = np.searchsorted(self.rows, self.starts[group : group + 2])
        return range(int(first), int(last))


def row_groups(paths: list[Path]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
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


class Look:
    """What is found out about rows without tokenising them, but for those that may be too long."""

    def __init__(self, recipe: Recipe, family: Family, report: DataReport, max_length: int) -> None:
        self._data = recipe.data
        self._equal = recipe.dpo.equal_pairs if isinstance(recipe, DpoRecipe) else None
        self._make = preference_example if isinstance(recipe, DpoRecipe) else sft_example
        self._family = family
        self._media = None if recipe.data.media is None else MediaPaths(recipe.data.media, False)
        self._report = report
        self._max_length = max_length
        self._clip = family.reader.video_tokens
        # No token stands for less than a byte of text; the template's own are beside it.
        ids, _ = family.encode([{"role": "user", "content": "a"}])
        self._template = len(ids) + 16
        self._too_long: list[str] = []
        self._absent = ReadReport()  # by video; what is told is by row

    def __call__(
        self, table: pa.Table, before: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
        """Numbers, lengths and clips of the rows to train on; `before` rows came earlier."""
        coded = table["video"].combine_chunks().dictionary_encode()
        names = coded.dictionary.to_pylist()
        there = np.array([self._found(name) for name in names] + [False])
        codes = np.array([zlib.crc32(name.encode()) for name in names] + [0], dtype=np.int64)
        at = coded.indices.fill_null(len(names)).to_numpy()  # a row that names no clip
        keep = there[at]
        for row in np.flatnonzero(~keep).tolist():
            self._report.missing.append(f"{table['id'][row]} ({table['video'][row]})")
        if self._equal is not None:
            keep &= self._differing(table)
        total, prompt = text_bytes(table)
        room = self._max_length - self._template - self._clip
        for row in np.flatnonzero(keep & (prompt >= room)).tolist():
            self._measure(table.slice(row, 1).to_pylist()[0])
        kept = np.flatnonzero(keep)
        lengths = (total // _BYTES_A_TOKEN + self._clip).astype(np.int32)
        return kept + before, lengths[kept], codes[at][kept]

    def _found(self, video: str) -> bool:
        return self._media is not None and self._media.find(video, self._absent) is not None

    def _differing(self, table: pa.Table) -> NDArray[np.bool_]:
        import pyarrow.compute as pc

        sides = [pc.utf8_trim_whitespace(table[side]) for side in ("chosen", "rejected")]
        differ: NDArray[np.bool_] = pc.not_equal(*sides).to_numpy()
        for row in np.flatnonzero(~differ).tolist():
            self._report.equal.append(str(table["id"][row]))
        return differ

    def _measure(self, row: Row) -> None:
        _, (prompt, _) = self._make(self._family, row, self._data.name)
        if prompt + self._clip - 1 >= self._max_length:
            self._too_long.append(str(row["id"]))

    def refuse(self) -> None:
        """Raise UserError for what the recipe does not allow."""
        refuse_missing(self._data, self._report)
        refuse_equal(self._data, self._equal, self._report)
        if self._too_long:
            raise UserError(
                f"optimisation.max_length {self._max_length}: {len(self._too_long)} rows have no "
                f"room for an answer after their clip and prompt: {and_more(self._too_long)}"
            )


def text_bytes(table: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
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
