"""Publishing: from a folder of data to a repository on the Hub, or to the same tree on disk.

Files first, then one commit that makes all of them the new version. Large files are uploaded
before the commit; the Hub keeps them by their content, so a second run after an interrupt uploads
only what is missing. Until the commit the repository shows its old version, from it on the new
one: readers never see half of each.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sharegptvideo._concurrency import Progress, no_progress
from sharegptvideo._io import cache_folder, os_errors
from sharegptvideo.data.publish.cards import changelog_entries, with_entry
from sharegptvideo.data.publish.tree import (
    PAGE,
    Pages,
    Tree,
    build_tree,
    card_templates,
    check_replaceable,
    check_rows,
    is_ours,
    selected_configs,
)
from sharegptvideo.data.sources.hub import hub_errors
from sharegptvideo.errors import UserError

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi

__all__ = ["CARDS", "Published", "Uploaded", "publish"]

PathLike = str | os.PathLike[str]

CARDS = "package"
"""What stands for the package's own cards in place of a folder."""

_FIX = "nothing was published; run the same command again to go on"
# A commit whose answer is lost may have been made.
_UNSURE = "run the same command again: it goes on, or finds that all is done"
_LOGIN = "set HF_TOKEN to a token that may write there, or run `hf auth login`"


@dataclass(frozen=True, slots=True)
class _Remote:
    """A repository before an upload.

    Attributes:
        repo_id: OWNER/NAME.
        commit: the commit of `main`; None where there is no repository yet.
        files: its files.
        page: the text of its front page, empty where it has none.
        tags: commit by tag.
    """

    repo_id: str
    commit: str | None
    files: frozenset[str]
    page: str
    tags: dict[str, str]


@dataclass(frozen=True, slots=True)
class Uploaded:
    """The result of an upload.

    Attributes:
        commit: the commit of `main` now.
        url: the page of the repository.
        changed: False where the repository had all of it already.
        deleted: files of the last version that are gone.
    """

    commit: str
    url: str
    changed: bool
    deleted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Published:
    """The result of `publish`.

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
    licence: str | None = None,
    against: PathLike | None = None,
    allow: Sequence[str] = (),
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
        cards: a folder with card templates of one's own (NAME.md); or "package" for the package's,
            which describe the release and the sets that configs are named after. Without it, a
            card describes rows only where the files show whose they are: got by `data download`
            and unchanged, or a synthetic world's test sets. All others are neutral.
        licence: the licence of rows with a neutral card, as the Hub names it; unknown if None.
        against: a folder with test sets that training videos must not be in, besides those here.
        allow: checks whose findings are published all the same and written on the cards:
            "leak-name", "equal-sides", "reversed-scores".
        progress: called with (done, total, what).

    Raises:
        UserError: rows that `data validate` refuses, a folder that cannot be written, the Hub
            refuses or is out of reach. Nothing is then published.
    """
    source = Path(folder).expanduser()
    _check_repo_id(repo_id)
    selected = selected_configs(source, configs)
    if dry_run is not None:
        check_replaceable(Path(dry_run).expanduser())
    described = cards == CARDS
    pages = Pages(
        repo_id,
        title=title or repo_id.split("/")[1],
        changelog=(),
        origin=origin,
        cards=None if cards is None or described else Path(cards).expanduser(),
        described=described,
        licence=licence,
    )
    card_templates(source, selected, pages)  # typing mistakes, before rows are read
    remote = None if dry_run is not None else _current(repo_id, private=private, tag=tag)
    version = tag or datetime.now(UTC).strftime("%Y-%m-%d")
    with _build_folder(repo_id, dry_run) as out:
        earlier = changelog_entries(remote.page if remote else _text(out / PAGE))
        entries = _entries(earlier, version, changelog)
        tests = None if against is None else Path(against).expanduser()
        checks = check_rows(source, selected, allow=allow, against=tests, progress=progress)
        pages = replace(pages, changelog=entries)
        clips = None if media is None else Path(media).expanduser()
        tree = build_tree(
            source, out, selected, pages, checks=checks, media=clips, progress=progress
        )
        sizes = [path.stat().st_size for path in tree.files]
        if remote is None:
            return Published(tree, len(sizes), sum(sizes), None)
        message = f"{version}: {tree.rows} rows in {', '.join(f.config.name for f in tree.configs)}"
        done = _upload(tree, remote, message=message, private=private, tag=tag, progress=progress)
    return Published(tree, len(sizes), sum(sizes), done)


def _entries(earlier: Sequence[str], version: str, text: str | None) -> list[str]:
    if text is not None:
        return with_entry(earlier, version, text)
    return list(earlier) or with_entry((), version, "first version")


def _text(path: Path) -> str:
    return path.read_text("utf-8") if path.is_file() else ""


@contextlib.contextmanager
def _build_folder(repo_id: str, dry_run: PathLike | None) -> Iterator[Path]:
    """Give the folder to build in: the one asked for, or one that is removed at the end."""
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


def _check_repo_id(repo_id: str) -> None:
    """Check that an id has the form OWNER/NAME and characters that the Hub takes."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import (  # type: ignore[attr-defined]  # exported all the same
        validate_repo_id,
    )

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        cause = str(error).splitlines()[0].rstrip(".")
        raise UserError(f"--repo-id {repo_id!r}: {cause}") from error
    if repo_id.count("/") != 1:
        raise UserError(f"--repo-id {repo_id!r}: OWNER/NAME is needed, as in alice/my-captions")


def _current(repo_id: str, *, private: bool, tag: str | None) -> _Remote:
    """Return the repository as it is, and refuse now what would fail at the end.

    Raises:
        UserError: no token; the repository is public where `private` is asked for; the tag is
            taken; the Hub is out of reach.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import RepositoryNotFoundError

    if get_token() is None:
        raise UserError(f"{repo_id}: publishing needs a token of the Hub; {_LOGIN}")
    api = HfApi()
    with hub_errors(repo_id, None, _FIX):
        try:
            info = api.dataset_info(repo_id)
        except RepositoryNotFoundError:
            return _Remote(repo_id, None, frozenset(), "", {})
        refs = api.list_repo_refs(repo_id, repo_type="dataset")
        files = frozenset(entry.rfilename for entry in info.siblings or ())
        page = ""
        if PAGE in files:
            page = _text(
                Path(api.hf_hub_download(repo_id, PAGE, repo_type="dataset", revision=info.sha))
            )
    if private and not info.private:
        raise UserError(
            f"{repo_id} is there already, and public; make it private on the Hub first, "
            "or leave --private out"
        )
    tags = {ref.name: ref.target_commit for ref in refs.tags}
    if tag is not None and tag in tags and tags[tag] != info.sha:
        taken = ", ".join(sorted(tags))
        raise UserError(f"{repo_id}: the tag {tag!r} names another version (tags: {taken})")
    return _Remote(repo_id, info.sha, files, page, tags)


def _upload(
    tree: Tree,
    remote: _Remote,
    *,
    message: str,
    private: bool = False,
    tag: str | None = None,
    progress: Progress | None = None,
) -> Uploaded:
    """Make `tree` the repository's new version, in one commit, and tag it.

    Files of an earlier tree that the new one has not are deleted by the same commit; other
    files of the repository stay. Done twice, the second time changes nothing.

    Raises:
        UserError: the Hub refuses or is out of reach, or another client committed meanwhile;
            the repository is then as it was.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi()
    show = progress or no_progress
    names = {path.relative_to(tree.root).as_posix(): path for path in tree.files}
    deleted = sorted(name for name in remote.files if is_ours(name) and name not in names)
    with hub_errors(remote.repo_id, None, _FIX):
        if remote.commit is None:
            api.create_repo(remote.repo_id, repo_type="dataset", private=private, exist_ok=True)
        additions = [CommitOperationAdd(name, str(path)) for name, path in names.items()]
        for done, addition in enumerate(additions):
            show(done, len(additions), "files uploaded")
            _send(api, remote.repo_id, addition)
        show(len(additions), len(additions), "files uploaded")
    with hub_errors(remote.repo_id, None, _UNSURE):
        commit = api.create_commit(
            remote.repo_id,
            [*additions, *(CommitOperationDelete(name) for name in deleted)],
            commit_message=message,
            repo_type="dataset",
            parent_commit=remote.commit,
        )
        if tag is not None and tag not in remote.tags:
            api.create_tag(remote.repo_id, tag=tag, revision=commit.oid, repo_type="dataset")
    url = f"{api.endpoint}/datasets/{remote.repo_id}"
    return Uploaded(commit.oid, url, commit.oid != remote.commit, tuple(deleted))


def _send(api: HfApi, repo_id: str, addition: CommitOperationAdd) -> None:
    """Upload one file, if it is a large one that the Hub has not got yet."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    ours = not are_progress_bars_disabled()
    disable_progress_bars()  # there is one for all files
    try:
        api.preupload_lfs_files(repo_id, [addition], repo_type="dataset", free_memory=False)
    except RuntimeError as error:
        # The client wraps what went wrong; only errors of the network become one line.
        if error.__cause__ is None:
            raise
        raise error.__cause__ from None
    finally:
        if ours:
            enable_progress_bars()
