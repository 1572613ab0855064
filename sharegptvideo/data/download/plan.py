"""The plan of a download, made before it does anything: files, sizes, what is there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from sharegptvideo._io import KeyedLog, read_jsonl
from sharegptvideo.data.download.fetch import RemoteFile, with_retries
from sharegptvideo.data.download.select import Choice, archive_name, select
from sharegptvideo.data.download.unpack import safe_parts
from sharegptvideo.data.sources.hub import TEST_REPO, TRAIN_REPO, hub_errors
from sharegptvideo.errors import UserError

__all__ = [
    "JOURNAL",
    "MARKER",
    "WORK",
    "Item",
    "Marker",
    "Plan",
    "State",
    "count_top",
    "from_release",
    "in_the_way",
    "make_plan",
    "read_marker",
    "work_folder",
]

WORK = ".sharegptvideo"
"""The folder below `--to` with the journal and what is under way; readers of media skip it."""

MARKER = ".archive.json"
"""The file in an unpacked folder that says which archive it came from."""


class State(Enum):
    """The work that is left for one file."""

    DONE = "done"
    """In its place and known to be right: nothing."""
    CHECK = "check"
    """A file of the right size lies in its place, not from us: hash it, then take it over."""
    FETCH = "fetch"
    """Not there, or only in part."""
    LOCAL = "local"
    """An archive of the user's, whatever the Hub has: unpack it."""


@dataclass(frozen=True, slots=True)
class Item:
    """A file of the plan. `here` is how many of its bytes need no more fetching."""

    remote: RemoteFile
    what: str
    target: Path
    state: State
    here: int
    is_archive: bool

    @property
    def to_fetch(self) -> int:
        """Bytes that have yet to come."""
        return 0 if self.state is State.DONE else self.remote.size - self.here

    @property
    def own(self) -> Path:
        """Where a copy of the archive that is not from us would lie: beside its folder."""
        return self.target.with_name(self.remote.path.rpartition("/")[2])


@dataclass(frozen=True, slots=True)
class Plan:
    """All files of a download, with remarks for the user in `notes`.

    `missing` are the media that the Hub does not give, each with the cause; all else can go on.
    """

    to: Path
    items: tuple[Item, ...]
    commits: dict[str, str]
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def open(self) -> list[Item]:
        """The items that are not done."""
        return [item for item in self.items if item.state is not State.DONE]

    @property
    def size(self) -> int:
        """Bytes of all files as the Hub has them."""
        return sum(item.remote.size for item in self.items)

    @property
    def to_fetch(self) -> int:
        """Bytes that have yet to come."""
        return sum(item.to_fetch for item in self.items)


JOURNAL = "download.jsonl"


def from_release(root: Path, file: Path) -> bool:
    """Return whether `file` of a download to `root` is the release's, and unchanged since."""
    try:
        rows = {row["path"]: row for _, row in read_jsonl(work_folder(root) / JOURNAL)}
        row = rows[file.relative_to(root).as_posix()]
    except (UserError, KeyError, ValueError):
        return False
    stat = file.stat()
    whole = (row.get("size"), row.get("mtime_ns")) == (stat.st_size, stat.st_mtime_ns)
    return whole and row.get("repo") in (TRAIN_REPO, TEST_REPO)


def work_folder(to: Path) -> Path:
    """Return where the download keeps its own files below `to`."""
    return to / WORK


def make_plan(
    name: str,
    to: Path,
    journal: KeyedLog,
    *,
    media: bool,
    raw: bool,
    only: str | None,
    revision: str | None,
) -> Plan:
    """List the repositories at one commit each, and compare with what lies in `to`.

    Raises:
        UserError: unknown name or source, the Hub cannot be reached, a file that the name
            needs is not there, or a file of the user's is in the way.
    """
    choices, notes = select(name, media=media, raw=raw, only=only)
    listing = _Listing(revision)
    items: dict[str, Item] = {}
    missing: list[str] = []
    for choice in choices:
        try:
            files = [file for file in listing.of(choice.repo) if choice.takes(file.path)]
            if not files:
                raise UserError(
                    f"{choice.repo}: no {choice.pattern} on the Hub for {choice.what}", exit_code=1
                )
        except UserError as error:
            if not choice.is_media:
                raise
            missing.append(f"no {choice.what}: {error}")
            continue
        for file in files:
            items.setdefault(f"{choice.folder}/{file.path}", _item(file, choice, to, journal))
    return Plan(to, tuple(items.values()), dict(listing.commits), tuple(notes), tuple(missing))


@dataclass(slots=True)
class _Listing:
    """The files of a repository, asked for once; `revision` is of the release's own."""

    revision: str | None
    commits: dict[str, str] = field(default_factory=dict)
    _files: dict[str, list[RemoteFile]] = field(default_factory=dict)

    def of(self, repo: str) -> list[RemoteFile]:
        if repo not in self._files:
            revision = self.revision if repo in (TRAIN_REPO, TEST_REPO) else None
            with hub_errors(repo, revision, _FIX):
                self._files[repo] = sorted(self._ask(repo, revision), key=_natural)
        return self._files[repo]

    def _ask(self, repo: str, revision: str | None) -> Iterator[RemoteFile]:
        from huggingface_hub import HfApi
        from huggingface_hub.hf_api import RepoFile

        api = HfApi()
        commit = with_retries(lambda: api.dataset_info(repo, revision=revision)).sha
        if commit is None:
            raise UserError(f"{repo}: the Hub names no commit", exit_code=1)
        self.commits[repo] = commit
        for entry in api.list_repo_tree(repo, recursive=True, revision=commit, repo_type="dataset"):
            if isinstance(entry, RepoFile):
                if not safe_parts(entry.path):
                    raise UserError(f"{repo}: refused, {entry.path!r} leads outside", exit_code=1)
                digest = (
                    f"git:{entry.blob_id}" if entry.lfs is None else f"sha256:{entry.lfs.sha256}"
                )
                yield RemoteFile(repo, commit, entry.path, entry.size, digest)


_FIX = "see that this machine has a network, and run the same command again"


def _natural(file: RemoteFile) -> list[str | int]:
    """Return a sort key that takes digits as numbers: chunk_2 before chunk_10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", file.path)]


def _item(file: RemoteFile, choice: Choice, to: Path, journal: KeyedLog) -> Item:
    inside = archive_name(file.path) if choice.is_media else None
    target = to / choice.folder / (inside or file.path)
    if inside is None:
        state, here = _file_state(file, target, to, journal)
    else:
        state, here = _folder_state(file, target, to)
    return Item(file, choice.what, target, state, here, is_archive=inside is not None)


def _file_state(file: RemoteFile, target: Path, to: Path, journal: KeyedLog) -> tuple[State, int]:
    if not target.exists():
        return State.FETCH, _partial(file, to)
    stat = target.stat()
    known = journal.rows.get(file.path, {})
    if (known.get("size"), known.get("mtime_ns")) == (stat.st_size, stat.st_mtime_ns):  # from us
        if known.get("digest") == file.digest:
            return State.DONE, file.size
        return State.FETCH, _partial(file, to)
    if target.is_file() and stat.st_size == file.size:
        return State.CHECK, file.size
    raise in_the_way(target, file)


def _folder_state(file: RemoteFile, target: Path, to: Path) -> tuple[State, int]:
    if target.exists():
        marker = read_marker(target)
        if marker is None:
            raise in_the_way(target, file)
        if marker.digest == file.digest and marker.is_whole(target):
            return State.DONE, file.size
    own = target.with_name(file.path.rpartition("/")[2])
    if own.is_file() and own.stat().st_size == file.size:
        return State.CHECK, file.size
    return State.FETCH, _partial(file, to)


def in_the_way(target: Path, file: RemoteFile) -> UserError:
    """Return the error for what lies where a file of the Hub belongs and is not from a download."""
    return UserError(
        f"{target}: is there, but is not {file.path} of {file.repo} as the Hub has it; "
        "move it away, or choose another folder with --to"
    )


def _partial(file: RemoteFile, to: Path) -> int:
    part = work_folder(to) / file.part_name
    return min(part.stat().st_size, file.size) if part.exists() else 0


@dataclass(frozen=True, slots=True)
class Marker:
    """What a folder's marker says of its archive: digest, entries that it gave, size in bytes.

    The size is None in markers of earlier versions.
    """

    digest: str
    top: int
    size: int | None

    def is_whole(self, folder: Path) -> bool:
        """Return whether nothing right below the folder was removed."""
        return count_top(folder) >= self.top


def read_marker(folder: Path) -> Marker | None:
    """Return the marker of an unpacked folder; None where there is no sound one."""
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(marker, dict):
        return None
    digest, top = marker.get("digest"), marker.get("top")
    if not isinstance(digest, str) or not isinstance(top, int):
        return None
    size = marker.get("size")
    return Marker(digest, top, size if isinstance(size, int) else None)


def count_top(folder: Path) -> int:
    """Count entries right below a folder, without the marker, to see that clips were removed."""
    return sum(1 for path in folder.iterdir() if path.name != MARKER)
