"""`convert`: original annotations, or rows of one's own, as Parquet in the published layout."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sharegptvideo._concurrency import Progress
from sharegptvideo._io import os_errors
from sharegptvideo._staging import replacing_files
from sharegptvideo.data.publish.shards import SplitFiles, write_split
from sharegptvideo.data.schema import Config, config_of
from sharegptvideo.data.sources import OnError, ReadReport, Row, on_error_of
from sharegptvideo.data.sources.original_rows import (
    activitynet_row,
    answered,
    answers_beside,
    clip_number,
    msrvtt_row,
    msvd_row,
    read_msvd_mapping,
    tgif_entries,
    tgif_row,
    video_chatgpt_entries,
    video_chatgpt_row,
)
from sharegptvideo.data.sources.original_sets import OriginalSet, original_set, split_of_file
from sharegptvideo.data.sources.originals import Entry, read_list
from sharegptvideo.data.sources.plain import plain_entries, plain_row, read_captions
from sharegptvideo.data.sources.report import refuse
from sharegptvideo.data.sources.rows import RowError, check, source_of
from sharegptvideo.data.sources.splits import stem_of
from sharegptvideo.errors import UserError

__all__ = ["Converted", "convert"]

PathLike = str | os.PathLike[str]

_STEP = 1000


@dataclass(slots=True)
class Converted:
    """What `convert` wrote.

    Attributes:
        config: the name to load the rows by, with the folder as `data_dir=`.
        splits: what was written of each split.
        complete: whether a split has as many questions as its authors published; only for
            splits whose number is known.
        report: rows left out with `on_error="skip"`.
        captioned: how many rows have a caption.
    """

    config: str
    splits: dict[str, SplitFiles] = field(default_factory=dict)
    complete: dict[str, bool] = field(default_factory=dict)
    report: ReadReport = field(default_factory=ReadReport)
    captioned: int = 0


def convert(
    source: str,
    files: Sequence[PathLike],
    to: PathLike,
    *,
    split: str | None = None,
    config: str | None = None,
    mapping: PathLike | None = None,
    captions: Sequence[PathLike] = (),
    columns: Mapping[str, str] | None = None,
    on_error: str = "raise",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Converted:
    """Write original annotations as `to/<config>/<split>-*.parquet`, all splits or none.

    Also after a kill: see `replacing_files`.

    Args:
        source: a name of `ORIGINAL_SETS`.
        files: the authors' files of one or more splits, or folders that hold them. For
            questions (`*_q.json`) the answers (`*_a.json`) are beside them.
        to: the folder to write to; what it has of other configs and splits stays.
        split: which split the files are, where their names do not say.
        config: where the rows go; by default the set's own short-answer config.
        mapping: MSVD and MSRVTT: lines of `clip_name vidN`; names the clips.
        captions: tables or JSONL with `video` and `caption`, joined to rows that have none.
        columns: for "plain": column of the schema → the file's.
        on_error: "raise", or "skip" rows that break the schema and list them in the report.
        overwrite: replace splits that `to` has already.
        progress: called with (rows so far, 0, what).

    Raises:
        UserError: no such source, config or file; a file that is not of its set or split; a row
            that breaks the schema (file and entry or line); the folder cannot be written.
    """
    original = original_set(source)
    target = _config(original, config)
    jobs = _jobs(original, target, [Path(file) for file in files], split)
    folder = Path(to)
    _check_free(folder, target, jobs, overwrite=overwrite)
    done = Converted(target.name)
    reader = _Reader(
        original,
        target,
        _names(original, mapping),
        columns or {},
        read_captions(map(Path, captions)),
        on_error_of(on_error),
        progress,
        done,
    )
    place = folder / target.name
    obsolete = [f"{name}-*.parquet" for name in jobs]
    with os_errors(folder), replacing_files(place, obsolete) as stage:
        for name, paths in jobs.items():
            part = write_split(reader.rows(name, paths), target, name, stage)
            if not part.rows:
                raise UserError(f"{paths[0]}: no row to write for {name}")
            for path in part.files:
                path.replace(stage / path.name)
            done.splits[name] = replace(part, files=tuple(place / p.name for p in part.files))
            if name in original.questions:
                done.complete[name] = part.rows == original.questions[name]
        (stage / target.name).rmdir()
    return done


def _config(original: OriginalSet, name: str | None) -> Config:
    if name is None and original.config is None:
        raise UserError(f"{original.name}: say what the rows are with --config, such as qa")
    config = config_of(name or str(original.config))
    if original.name != "plain" and not {"question", "answer"} <= set(config.columns):
        raise UserError(f"{config.name} has no question and answer, which {original.title} has")
    return config


def _jobs(
    original: OriginalSet, config: Config, files: list[Path], split: str | None
) -> dict[str, list[Path]]:
    """Split → its files, in the order of the config's splits."""
    jobs: dict[str, list[Path]] = {}
    for path in _files(original, files):
        name = split_of_file(path, original, split)
        if name not in config.splits:
            raise UserError(
                f"{path}: {config.name} has no split {name!r} (it has: {', '.join(config.splits)})"
            )
        jobs.setdefault(name, []).append(path)
    return {name: jobs[name] for name in config.splits if name in jobs}


def _files(original: OriginalSet, given: list[Path]) -> list[Path]:
    """Files of questions, each once; a folder stands for those in it, answers for questions."""
    paths: list[Path] = []
    for path in given:
        if path.is_dir():
            paths += _in_folder(original, path)
        elif path.is_file():
            paths.append(path)
        else:
            raise UserError(f"{path}: no such file")
    if original.name in ("activitynet-qa", "video-chatgpt"):
        paths = [_questions_of(path) for path in paths]
    return list(dict.fromkeys(paths))


def _in_folder(original: OriginalSet, folder: Path) -> list[Path]:
    patterns = [pattern for row in original.files.values() for pattern in row.split(", ")]
    paths = sorted({path for pattern in patterns for path in folder.glob(f"*{pattern}")})
    if not paths:
        wanted = ", ".join(patterns) or "no name is known for it; give the file itself"
        raise UserError(f"{folder}: no file of {original.title} here ({wanted})")
    return paths


def _questions_of(path: Path) -> Path:
    """Return the questions of a file of answers; any other file itself."""
    if not path.name.lower().endswith("_a.json"):
        return path
    letter = "Q" if path.name[-6] == "A" else "q"
    questions = path.with_name(f"{path.name[:-6]}{letter}.json")
    if not questions.is_file():
        raise UserError(f"{path}: its questions, {questions.name}, are not beside it")
    return questions


def _check_free(folder: Path, config: Config, jobs: Iterable[str], overwrite: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; --to is the folder to write into")
    for name in jobs:
        if not overwrite and any((folder / config.name).glob(f"{name}-*.parquet")):
            raise UserError(
                f"{folder}: has {config.name} {name} already; give all files of a split at once, "
                "or pass --overwrite to replace it"
            )


def _names(original: OriginalSet, mapping: PathLike | None) -> dict[str, str] | None:
    if mapping is None:
        return None
    if not original.clips:
        raise UserError(f"--mapping is for msvd-qa and msrvtt-qa, not for {original.name}")
    return read_msvd_mapping(Path(mapping))


@dataclass(slots=True)
class _Reader:
    """Reads the files of a split as checked rows of the config."""

    original: OriginalSet
    config: Config
    names: Mapping[str, str] | None
    columns: Mapping[str, str]
    captions: Mapping[str, str]
    on_error: OnError
    progress: Progress | None
    done: Converted

    def rows(self, split: str, paths: list[Path]) -> Iterator[Row]:
        """Yield the rows of a split; ids are unique in it.

        Raises:
            UserError: an entry that is no row, unless `on_error` is "skip".
        """
        ids: dict[str, str] = {}
        for path in paths:
            for where, entry in self._entries(path):
                try:
                    row = self._row(where, entry, split)
                    if row["id"] in ids:
                        raise RowError(f"id {row['id']!r} is that of {ids[row['id']]} too")
                except RowError as error:
                    self._bad(f"{where}: {error}")
                    continue
                ids[row["id"]] = where
                self.done.captioned += bool(row.get("caption"))
                if self.progress and len(ids) % _STEP == 0:
                    self.progress(len(ids), 0, f"{self.config.name} {split}")
                yield row

    def _bad(self, problem: str) -> None:
        refuse(problem, self.on_error, self.done.report)

    def _entries(self, path: Path) -> Iterator[Entry]:
        match self.original.name:
            case "tgif-qa":
                return tgif_entries(path, self._bad)
            case "activitynet-qa":
                return answered(path, answers_beside(path))
            case "video-chatgpt":
                return video_chatgpt_entries(path, on_bad=self._bad)
            case "plain":
                return plain_entries(path, self.config, self.columns, self._bad)
            case _:
                return read_list(path, self._bad)

    def _row(self, where: str, entry: Row, split: str) -> Row:
        row = self._converted(entry)
        if self.original.clips:
            self._check_clip(where, clip_number(entry), split)
        if row.get("caption") is None:
            row["caption"] = self.captions.get(stem_of(str(row.get("video"))))
        if self.original.name != "plain":
            row["source"] = source_of({}, row["video"], self.original.label)
        return check(self.config, row)

    def _converted(self, entry: Row) -> Row:
        match self.original.name:
            case "msvd-qa":
                return msvd_row(entry, self.names)
            case "msrvtt-qa":
                return msrvtt_row(entry, self.names)
            case "tgif-qa":
                return tgif_row(entry)
            case "activitynet-qa":
                return activitynet_row(entry)
            case "video-chatgpt":
                return video_chatgpt_row(entry)
            case _:
                return plain_row(entry, self.config)

    def _check_clip(self, where: str, number: int, split: str) -> None:
        """Refuse a clip whose number is of another split, whatever the file is called."""
        sides = self.original.clips.items()
        owner = next((side for side, (low, high) in sides if low <= number <= high), None)
        if owner != split:
            raise UserError(
                f"{where}: clip {number} of {self.original.title} belongs to "
                f"{owner or 'no split'}, not to {split}; convert the file as that, or a selection "
                "of your own as plain"
            )
