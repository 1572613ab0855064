"""`publish`: from a folder of data to a repository on the Hub, or to the same tree on disk."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sharegptvideo._concurrency import Progress
from sharegptvideo._io import cache_folder, os_errors
from sharegptvideo.data.publish.cards import changelog_entries, with_entry
from sharegptvideo.data.publish.tree import (
    PAGE,
    Tree,
    build_tree,
    check_rows,
    chosen_configs,
    may_replace,
)
from sharegptvideo.data.publish.upload import Uploaded, check_repo_id, look, upload

__all__ = ["Published", "publish"]

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Published:
    """What `publish` did.

    Attributes:
        tree: the files' facts; the files themselves are there after a dry run alone.
        files: how many there are.
        bytes: their size.
        uploaded: None after a dry run.
    """

    tree: Tree
    files: int
    bytes: int
    uploaded: Uploaded | None


def publish(
    folder: PathLike,
    repo_id: str,
    *,
    dry_run: PathLike | None = None,
    configs: Sequence[str] = (),
    private: bool = False,
    tag: str | None = None,
    changelog: str | None = None,
    title: str | None = None,
    origin: str | None = None,
    media: PathLike | None = None,
    cards: PathLike | None = None,
    progress: Progress | None = None,
) -> Published:
    """Publish a folder of data as one repository with all its configs.

    Args:
        folder: a release, a synthetic world, or Parquet of this package.
        repo_id: OWNER/NAME; made where it is not there.
        dry_run: write the same tree to this folder, and send nothing.
        configs: what to publish, the default config first; all that the folder has if empty.
        private: a new repository is private; an existing public one is refused.
        tag: a tag for the new version, such as "v1.1".
        changelog: one line that says what is new; earlier lines stay.
        title: of the front page; the repository's name if None.
        origin: where the rows come from, as in "from ...", for the cards.
        media: the folder with the clips, to put them into the rows.
        cards: a folder with card templates of one's own (NAME.md), in place of the package's,
            which describe the release.
        progress: called with (done, total, what).

    Raises:
        UserError: rows that `data validate` refuses, a folder that cannot be written, the Hub
            refuses or is out of reach. Nothing is then published.
    """
    source = Path(folder).expanduser()
    check_repo_id(repo_id)
    chosen = chosen_configs(source, configs)
    if dry_run is not None:
        may_replace(Path(dry_run).expanduser())
    remote = None if dry_run is not None else look(repo_id, private=private, tag=tag)
    version = tag or datetime.now(UTC).strftime("%Y-%m-%d")
    with _place(repo_id, dry_run) as out:
        earlier = changelog_entries(remote.page if remote else _page(out))
        entries = _entries(earlier, version, changelog)
        check_rows(source, chosen, progress)
        tree = build_tree(
            source,
            out,
            configs=chosen,
            repo_id=repo_id,
            title=title or repo_id.split("/")[1],
            changelog=entries,
            origin=origin,
            media=None if media is None else Path(media).expanduser(),
            cards=None if cards is None else Path(cards).expanduser(),
            progress=progress,
        )
        sizes = [path.stat().st_size for path in tree.files]
        if remote is None:
            return Published(tree, len(sizes), sum(sizes), None)
        message = f"{version}: {tree.rows} rows in {', '.join(f.config.name for f in tree.configs)}"
        done = upload(tree, remote, message=message, private=private, tag=tag, progress=progress)
    return Published(tree, len(sizes), sum(sizes), done)


def _entries(earlier: Sequence[str], version: str, text: str | None) -> list[str]:
    if text is not None:
        return with_entry(earlier, version, text)
    return list(earlier) or with_entry((), version, "first version")


def _page(out: Path) -> str:
    path = out / PAGE
    return path.read_text("utf-8") if path.is_file() else ""


@contextlib.contextmanager
def _place(repo_id: str, dry_run: PathLike | None) -> Iterator[Path]:
    """The folder to build in: the one that was asked for, or one that goes when all is done."""
    if dry_run is not None:
        yield Path(dry_run).expanduser()
        return
    out = cache_folder() / "publish" / repo_id.replace("/", "--")
    try:
        with os_errors(out):
            # Left by a killed run; the same rows make the same files, so nothing is lost with it.
            shutil.rmtree(out, ignore_errors=True)
            yield out
    finally:
        shutil.rmtree(out, ignore_errors=True)
