"""Rows of a recipe's data as tokenised examples, with what was left out or cut."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sharegptvideo._concurrency import available_cores, ordered_map
from sharegptvideo._io import dumps, making
from sharegptvideo._text import and_more
from sharegptvideo.errors import UserError
from sharegptvideo.media import MediaError, read_image
from sharegptvideo.models.prompts import Message, conversation
from sharegptvideo.training.mix import kind_of, mixed_rows, visual_of
from sharegptvideo.training.recipes import DataSource, LengthLimit

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

    from sharegptvideo.training.families import ClipReader, Family

__all__ = [
    "DataReport",
    "ExampleWriter",
    "messages_of",
    "preference_dataset",
    "preference_example",
    "refuse_equal",
    "refuse_missing",
    "sft_dataset",
    "sft_example",
]

Row = dict[str, Any]

_BATCH = 1000


@dataclass(slots=True)
class DataReport:
    """What became of the rows.

    `used` are trained on, `cut` of them lost text at their end; `missing` had no clip, no image
    or one that cannot be read, `equal` the same answer as chosen and rejected.
    """

    used: int = 0
    missing: list[str] = field(default_factory=list)
    equal: list[str] = field(default_factory=list)
    cut: int = 0
    sha256: str = ""

    def notes(self) -> list[str]:
        """One line for each thing that a user should know."""
        notes = []
        if self.missing:
            notes.append(
                f"{len(self.missing)} rows without a clip or readable image left out: "
                f"{and_more(self.missing)}"
            )
        if self.equal:
            notes.append(
                f"{len(self.equal)} pairs of equal answers left out: {and_more(self.equal)}"
            )
        if self.cut:
            notes.append(f"{self.cut} of {self.used} rows cut to max_length")
        return notes


class ExampleWriter:
    """Writes examples to an Arrow file, a thousand at a time, and opens it mapped.

    Without a file they stay in memory, as Arrow. On an error the file is removed, with the folders
    that were made for it: a run that refused its rows leaves its output free for the next one.
    """

    def __init__(self, file: Path | None, columns: Mapping[str, pa.DataType]) -> None:
        import pyarrow as pa

        self._file = file
        self._made: list[Path] = []  # folders, the innermost first
        self._schema = pa.schema(dict(columns))
        self._examples: list[Row] = []
        self._sink: pa.NativeFile | None = None
        self._writer: pa.ipc.RecordBatchStreamWriter | None = None

    def __enter__(self) -> ExampleWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._sink is not None:
            self._sink.close()
            if kind is not None and self._file is not None:
                self._file.unlink()
                for folder in self._made:
                    folder.rmdir()

    def add(self, example: Row) -> None:
        """Take in the next example."""
        self._examples.append(example)
        if len(self._examples) == _BATCH:
            self._write()

    def dataset(self) -> Dataset:
        """Return all examples, after the last."""
        import pyarrow as pa
        from datasets import Dataset

        self._write()
        assert self._writer is not None
        assert self._sink is not None
        self._writer.close()
        if isinstance(self._sink, pa.BufferOutputStream):
            return Dataset.from_buffer(self._sink.getvalue())
        self._sink.close()
        return Dataset.from_file(str(self._file))

    def _write(self) -> None:
        import pyarrow as pa

        if self._writer is None:
            if self._file is None:
                self._sink = pa.BufferOutputStream()
            else:
                self._made = [folder for folder in self._file.parents if not folder.exists()]
                with making(self._file.parent):
                    self._sink = pa.OSFile(str(self._file), "wb")
            self._writer = pa.ipc.new_stream(self._sink, self._schema)
        self._writer.write_table(pa.Table.from_pylist(self._examples, schema=self._schema))
        self._examples.clear()


def sft_dataset(
    data: DataSource,
    family: Family,
    *,
    limit: LengthLimit,
    seed: int = 0,
    file: Path | None = None,
) -> tuple[Dataset, DataReport]:
    """Return examples `{video_path, image_path, length, ids, assistant_mask}`.

    A clip or image is still one token. Its path is null in rows of text alone, which like rows
    about images are there for families that train on images.

    Args:
        seed: the recipe's, which chooses rows of a part whose weight is no whole number.
        file: where they are written, and mapped from; in memory where None.

    Raises:
        UserError: a row without its clip, or without an image that can be read (unless they are
            skipped), without an answer, or with a question that alone fills `limit`; no rows at
            all.
    """

    def example(row: Row) -> tuple[Row, list[int]]:
        return sft_example(family, row)

    report = DataReport()
    with _writer(file, "ids", "assistant_mask") as writer:
        for one in _examples(data, example, report, family.reader, limit, seed):
            writer.add(one)
        return writer.dataset(), report


def preference_dataset(
    data: DataSource,
    family: Family,
    *,
    limit: LengthLimit,
    seed: int = 0,
    equal_pairs: Literal["error", "skip"] = "error",
    file: Path | None = None,
) -> tuple[Dataset, DataReport]:
    """Return examples `{video_path, image_path, length, prompt_ids, chosen_ids, rejected_ids}`.

    The clip is one token, image_path null; `seed` and `file` are as in `sft_dataset`.

    Raises:
        UserError: as `sft_dataset`; or rows that are no preferences.
    """
    report = DataReport()

    def example(row: Row) -> tuple[Row, list[int]] | None:
        if not {"prompt", "chosen", "rejected"} <= row.keys():
            raise UserError(f"data {data}: its rows are no preference pairs")
        if row["chosen"].strip() == row["rejected"].strip():
            report.equal.append(str(row["id"]))
            return None
        return preference_example(family, row)

    with _writer(file, "prompt_ids", "chosen_ids", "rejected_ids") as writer:
        for one in _examples(data, example, report, family.reader, limit, seed):
            writer.add(one)
        refuse_equal(data, equal_pairs, report)
        return writer.dataset(), report


def refuse_equal(data: DataSource, equal_pairs: str | None, report: DataReport) -> None:
    """Raise UserError where pairs have equal answers and are not to be left out."""
    if report.equal and equal_pairs == "error":
        raise UserError(
            f"data {data}: {len(report.equal)} pairs whose chosen and rejected answers are "
            f"equal teach nothing: {and_more(report.equal)}; fix them or set dpo.equal_pairs=skip"
        )


def _writer(file: Path | None, *lists: str) -> ExampleWriter:
    import pyarrow as pa

    kinds = {"assistant_mask": pa.list_(pa.bool_())}
    columns = {name: kinds.get(name, pa.list_(pa.int64())) for name in lists}
    paths = {"video_path": pa.string(), "image_path": pa.string()}
    return ExampleWriter(file, {**paths, "length": pa.int64(), **columns})


def sft_example(family: Family, row: Row) -> tuple[Row, list[int]]:
    """`{ids, assistant_mask}` of a row; tokens before the answer, and of all."""
    ids, assistant_mask = family.encode(messages_of(row), kind_of(row))
    if not any(assistant_mask):
        raise UserError(f"row {row['id']}: no answer to train on")
    return {"ids": ids, "assistant_mask": assistant_mask}, [assistant_mask.index(True), len(ids)]


def preference_example(family: Family, row: Row) -> tuple[Row, list[int]]:
    """`{prompt_ids, chosen_ids, rejected_ids}`; tokens of the prompt, and of all."""
    prompt, _ = family.encode(conversation(row["prompt"]))
    answers = {}
    for side in ("chosen", "rejected"):
        ids, assistant_mask = family.encode(conversation(row["prompt"], row[side]))
        answers[f"{side}_ids"] = [i for i, said in zip(ids, assistant_mask, strict=True) if said]
    longest = len(prompt) + max(map(len, answers.values()))
    return {"prompt_ids": prompt, **answers}, [len(prompt), longest]


def messages_of(row: Row) -> list[Message]:
    """Return the conversation of a row of `sft` (messages), `captions` or any QA config."""
    if "messages" in row:
        return list(row["messages"])
    if "caption" in row and "prompt" in row:
        return conversation(row["prompt"], row["caption"])
    if "question" in row and "answer" in row:
        return conversation(row["question"], row["answer"])
    raise UserError(f"row {row.get('id')}: neither messages, nor a caption, nor an answer")


def _examples(
    data: DataSource,
    example: Callable[[Row], tuple[Row, list[int]] | None],
    report: DataReport,
    reader: ClipReader,
    limit: LengthLimit,
    seed: int,
) -> Iterator[Row]:
    digest, too_long = hashlib.sha256(), []
    for row in _rows(data, seed, report, images=reader.image_tokens > 0):
        line = {k: v for k, v in row.items() if k not in ("video_path", "image_path")}
        digest.update(dumps(line).encode() + b"\n")
        made = example(row)
        if made is None:
            continue
        content, (prompt, whole) = made
        visual = visual_of(row)
        positions = reader.positions(visual)
        more, most = positions - 1, limit.positions(positions)  # one token stands for it here
        if prompt + more >= most:
            too_long.append(f"{row['id']} ({prompt + more} positions without an answer)")
        report.cut += whole + more > most
        report.used += 1
        paths = {"video_path": row.get("video_path"), "image_path": row.get("image_path")}
        yield {**paths, "length": whole + more, **content}
    if too_long:
        raise UserError(
            f"optimisation.max_length {limit.tokens}: {len(too_long)} rows have no room for an "
            f"answer after their clip and prompt: {and_more(too_long)}"
        )
    if not report.used:
        raise UserError(f"data {data} ({data.split}): no rows to train on")
    report.sha256 = digest.hexdigest()


def _rows(data: DataSource, seed: int, report: DataReport, *, images: bool) -> Iterator[Row]:
    """Yield rows whose clip or image is there; where `images` are trained on, of text alone too."""
    cores = available_cores()
    rows = (row for _, row in mixed_rows(data, seed))
    fault_of = functools.lru_cache(maxsize=1024)(_fault)  # rows about one image stand together

    def check(row: Row) -> tuple[Row, str | None]:
        path = row.get("image_path")
        return row, None if path is None else fault_of(str(path))

    with contextlib.closing(ordered_map(check, rows, workers=cores, ahead=8 * cores)) as checked:
        for row, fault in checked:
            kind = kind_of(row)
            taken = kind == "video" or images
            if taken and fault is None and (kind == "text" or visual_of(row)):
                yield row
                continue
            report.missing.append(f"{row['id']} ({fault or row.get('video') or row.get('image')})")
    refuse_missing(data, report)


def _fault(image: str) -> str | None:
    """Return why an image cannot be read, or None if it can."""
    try:
        read_image(image)
    except MediaError as error:
        return str(error)
    return None


def refuse_missing(data: DataSource, report: DataReport) -> None:
    """Raise UserError where rows have no clip or image and are not to be left out."""
    if report.missing and data.missing_media == "error":
        raise UserError(
            f"data {data}: {len(report.missing)} rows have no clip or readable image under media "
            f"{data.media}: {and_more(report.missing)}; add what is missing or set "
            f"data.missing_media=skip"
        )
