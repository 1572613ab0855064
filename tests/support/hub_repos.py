"""Repositories as the Hub keeps them: commits, branches, tags, files in git or in LFS.

No HTTP here: `hub_server` speaks it. What a client may not do raises `RefusedError`, with the
status and the `X-Error-Code` by which `huggingface_hub` distinguishes kinds of 404.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import fnmatch
import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import yaml

__all__ = [
    "ATTRIBUTES",
    "BRANCH",
    "GIT_LIMIT",
    "Blob",
    "Commit",
    "RefusedError",
    "Repo",
    "card_errors",
    "is_lfs",
]

BRANCH = "main"

# The Hub takes larger files than this by LFS only.
GIT_LIMIT = 10 << 20

# The part of the Hub's .gitattributes for a new dataset that matters here.
LFS_PATTERNS = (
    *("*.7z", "*.arrow", "*.bin", "*.bz2", "*.gz", "*.h5", "*.npy", "*.npz", "*.parquet", "*.pt"),
    *("*.safetensors", "*.tar", "*.tar.*", "*.tgz", "*.xz", "*.zip", "*.zst", "*.mp4", "*.webm"),
    *("*.gif", "*.png", "*.jpg", "*.jpeg", "*.webp", "*.mp3", "*.wav", "*.flac"),
)
ATTRIBUTES = "".join(f"{name} filter=lfs diff=lfs merge=lfs -text\n" for name in LFS_PATTERNS)

_START = datetime.datetime(2024, 4, 1, tzinfo=datetime.UTC)


class RefusedError(Exception):
    """An answer that is not a success: status, message, and the Hub's code for it if it has one."""

    def __init__(
        self, status: int, message: str, code: str = "", body: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.body = body or {"error": message}


@dataclass(frozen=True)
class Blob:
    """A file's content; `lfs` files have a pointer in git, and that pointer's git id."""

    content: bytes
    lfs: bool

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def pointer(self) -> bytes:
        size = len(self.content)
        head = "version https://git-lfs.github.com/spec/v1\n"
        return f"{head}oid sha256:{self.sha256}\nsize {size}\n".encode()

    @cached_property
    def oid(self) -> str:
        stored = self.pointer if self.lfs else self.content
        return hashlib.sha1(b"blob %d\0" % len(stored) + stored).hexdigest()  # git's object id

    @property
    def etag(self) -> str:
        """What names the content: SHA-256 for LFS, the git id otherwise, as on the Hub."""
        return self.sha256 if self.lfs else self.oid

    def entry(self, path: str) -> dict[str, Any]:
        """The file as the tree and paths-info answers list it."""
        found = {"type": "file", "path": path, "oid": self.oid, "size": len(self.content)}
        if self.lfs:
            lfs = {"oid": self.sha256, "size": len(self.content), "pointerSize": len(self.pointer)}
            found["lfs"] = lfs
        return found


@dataclass(frozen=True)
class Commit:
    """One revision of all files."""

    oid: str
    title: str
    message: str
    author: str
    date: str
    parent: str | None
    files: Mapping[str, Blob]


def is_lfs(path: str, size: int, sample: bytes) -> bool:
    """Whether the Hub wants a file by LFS: its name, its size, or bytes that are no text."""
    name = path.rsplit("/", 1)[-1]
    by_name = any(fnmatch.fnmatch(name, pattern) for pattern in LFS_PATTERNS)
    return by_name or size > GIT_LIMIT or b"\0" in sample


def card_errors(text: str) -> list[str]:
    """What the Hub would refuse in a README.md: a head that is not a YAML mapping."""
    if not text.startswith("---\n"):
        return []
    head, end, _ = text[4:].partition("\n---")
    if not end:
        return ["the YAML head has no end"]
    try:
        value = yaml.safe_load(head)
    except yaml.YAMLError as error:
        return [f"the YAML head cannot be read: {str(error).splitlines()[0]}"]
    return [] if isinstance(value, dict) else ["the YAML head is not a mapping"]


@dataclass
class Repo:
    """A repository: `type` is "dataset" or "model", `name` is NAMESPACE/NAME."""

    type: str
    name: str
    private: bool = False
    gated: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def commit(
        self, files: Mapping[str, Blob], title: str, message: str = "", author: str = "system"
    ) -> Commit:
        """A new head of `main` with exactly these files."""
        return self.add(BRANCH, files, title, message, author)

    def add(
        self, branch: str, files: Mapping[str, Blob], title: str, message: str, author: str
    ) -> Commit:
        parent = self.branches.get(branch)
        # Deterministic, so that a test's ids are the same in every run.
        time = _START + datetime.timedelta(minutes=len(self.commits))
        date = time.strftime("%Y-%m-%dT%H:%M:%S.000Z")  # the one form that the client reads
        what = [self.type, self.name, parent, title, message, date]
        ids = sorted((path, blob.oid) for path, blob in files.items())
        oid = hashlib.sha1(json.dumps([what, ids]).encode()).hexdigest()
        made = Commit(oid, title, message, author, date, parent, dict(files))
        self.commits[oid] = made
        self.branches[branch] = oid
        return made

    def resolve(self, revision: str) -> Commit:
        """The commit that a branch, a tag or (the start of) a commit id names."""
        name = revision.removeprefix("refs/heads/").removeprefix("refs/tags/")
        oid = self.branches.get(name) or self.tags.get(name) or revision
        found = [key for key in self.commits if len(oid) >= 7 and key.startswith(oid)]
        if len(found) != 1:
            raise RefusedError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[found[0]]

    def log(self, revision: str = BRANCH) -> list[Commit]:
        """The commits of a revision, newest first."""
        found: list[Commit] = []
        oid: str | None = self.resolve(revision).oid
        while oid is not None:
            found.append(self.commits[oid])
            oid = self.commits[oid].parent
        return found

    def last_change(self, commit: Commit, path: str) -> dict[str, str]:
        """The newest commit, from `commit` backwards, that changed the file or folder `path`."""

        def below(at: Commit) -> set[tuple[str, str]]:
            return {(name, at.files[name].oid) for name in at.files if _is_below(name, path)}

        log = self.log(commit.oid)
        newest = next(
            (new for new, old in itertools.pairwise(log) if below(new) != below(old)), log[-1]
        )
        return {"id": newest.oid, "title": newest.title, "date": newest.date}

    def tree(self, commit: Commit, folder: str = "", *, recursive: bool) -> list[dict[str, Any]]:
        """Files and folders in `folder`, sorted by path; folders too when recursive, as listed."""
        folder = folder.strip("/")
        if folder and not any(_is_below(path, folder) and path != folder for path in commit.files):
            raise _no_entry(folder, commit)
        start = f"{folder}/" if folder else ""
        found: dict[str, dict[str, Any]] = {}
        for path, blob in commit.files.items():
            if not path.startswith(start):
                continue
            parts = path[len(start) :].split("/")
            for depth in range(1, len(parts)) if recursive else range(1, min(2, len(parts))):
                name = start + "/".join(parts[:depth])
                found.setdefault(name, _folder(commit, name))
            if recursive or len(parts) == 1:
                found[path] = blob.entry(path)
        return [found[path] for path in sorted(found)]

    def paths(self, commit: Commit, names: Iterable[str]) -> list[dict[str, Any]]:
        """The entries of those `names` that are there."""
        found = []
        for name in (name.strip("/") for name in names):
            if name in commit.files:
                found.append(commit.files[name].entry(name))
            elif any(_is_below(path, name) for path in commit.files):
                found.append(_folder(commit, name))
        return found

    def file(self, commit: Commit, path: str) -> Blob:
        """A file of a commit."""
        if path not in commit.files:
            raise _no_entry(path, commit)
        return commit.files[path]

    def apply(
        self, branch: str, lines: Iterable[bytes], objects: Mapping[str, bytes], author: str
    ) -> Commit:
        """One commit from the lines of a commit request: all of it, or `RefusedError` and nothing.

        `objects` are the LFS contents uploaded so far, by SHA-256.
        """
        if branch not in self.branches:
            raise RefusedError(404, f"Invalid rev id: {branch}", "RevisionNotFound")
        head = self.branches[branch]
        files = dict(self.commits[head].files)
        title = message = ""
        for line in lines:
            key, value = _operation(line)
            if key == "header":
                title, message = value["summary"], value.get("description", "")
                parent = value.get("parentCommit")
                if parent and not head.startswith(parent):
                    raise RefusedError(
                        412, "A commit has happened since. Please refresh and try again."
                    )
            else:
                _change(files, key, value, objects)
        if not title:
            raise RefusedError(400, "a commit needs a header with a summary")
        return self.add(branch, files, title, message, author)


def _operation(line: bytes) -> tuple[str, dict[str, Any]]:
    try:
        item = json.loads(line)
        key, value = item["key"], item["value"]
    except (ValueError, KeyError, TypeError) as error:
        raise RefusedError(400, f"a line of the commit cannot be read: {error}") from error
    return str(key), dict(value)


def _change(
    files: dict[str, Blob], key: str, value: dict[str, Any], objects: Mapping[str, bytes]
) -> None:
    path = str(value.get("path", ""))
    parts = path.rstrip("/").split("/")
    if not path or any(part in {"", ".", "..", ".git"} for part in parts):
        raise RefusedError(400, f"invalid path in the commit: {path!r}")
    if key == "file":
        files[path] = _git_file(path, str(value["content"]), str(value.get("encoding", "utf-8")))
    elif key == "lfsFile":
        if value["oid"] not in objects:
            raise RefusedError(
                400, f"the LFS pointer of {path} points to a file that does not exist"
            )
        files[path] = Blob(objects[value["oid"]], lfs=True)
    elif key in {"deletedFile", "deletedFolder"}:
        gone = [
            name
            for name in files
            if name == path or (key[7:] == "Folder" and _is_below(name, path))
        ]
        if not gone:
            raise RefusedError(404, "A file with this name doesn't exist", "EntryNotFound")
        for name in gone:
            del files[name]
    else:
        raise RefusedError(400, f"unknown operation {key!r}")


def _git_file(path: str, content: str, encoding: str) -> Blob:
    try:
        data = (
            base64.b64decode(content, validate=True) if encoding == "base64" else content.encode()
        )
    except binascii.Error as error:
        raise RefusedError(400, f"{path}: not base64") from error
    # An empty file goes by git whatever its name: a client cannot upload nothing by LFS.
    if data and is_lfs(path, len(data), data):
        raise RefusedError(400, f"{path}: push rejected, such a file has to go by LFS")
    if path == "README.md" and (errors := card_errors(data.decode(errors="replace"))):
        raise RefusedError(400, f"Invalid metadata in README.md: {errors[0]}")
    return Blob(data, lfs=False)


def _folder(commit: Commit, name: str) -> dict[str, Any]:
    inside = sorted(
        (path, blob.oid) for path, blob in commit.files.items() if _is_below(path, name)
    )
    oid = hashlib.sha1(json.dumps(inside).encode()).hexdigest()
    return {"type": "directory", "path": name, "oid": oid, "size": 0}


def _is_below(path: str, folder: str) -> bool:
    folder = folder.rstrip("/")
    return path == folder or path.startswith(f"{folder}/")


def _no_entry(path: str, commit: Commit) -> RefusedError:
    return RefusedError(404, f"{path} does not exist on {commit.oid}", "EntryNotFound")
