"""A tree to the Hub: files first, then one commit that makes all of them the new version.

Large files are uploaded before the commit; the Hub keeps them by their content, so a second run
after an interrupt uploads only what is missing. Until the commit the repository shows its old
version, from it on the new one: readers never see half of each.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sharegptvideo._concurrency import Progress
from sharegptvideo.data.publish.tree import PAGE, Tree, is_ours
from sharegptvideo.data.sources.hub import hub_errors
from sharegptvideo.errors import UserError

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi

__all__ = ["Remote", "Uploaded", "check_repo_id", "look", "upload"]


_FIX = "nothing was published; run the same command again to go on"
# A commit whose answer is lost may have been made.
_UNSURE = "run the same command again: it goes on, or finds that all is done"
_LOGIN = "set HF_TOKEN to a token that may write there, or run `hf auth login`"


@dataclass(frozen=True, slots=True)
class Remote:
    """A repository before an upload.

    Attributes:
        repo_id: OWNER/NAME.
        commit: what `main` is at; None where there is no repository yet.
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
    """What an upload did.

    Attributes:
        commit: what `main` is at now.
        url: where to look at it.
        changed: False where the repository had all of it already.
        deleted: files of the last version that are gone.
    """

    commit: str
    url: str
    changed: bool
    deleted: tuple[str, ...]


def check_repo_id(repo_id: str) -> None:
    """Raises:
    UserError: not of the form OWNER/NAME, or with characters that the Hub does not take.
    """
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


def look(repo_id: str, *, private: bool, tag: str | None) -> Remote:
    """The repository as it is, before anything is built; refuses what would fail at the end.

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
            return Remote(repo_id, None, frozenset(), "", {})
        refs = api.list_repo_refs(repo_id, repo_type="dataset")
        files = frozenset(entry.rfilename for entry in info.siblings or ())
        page = _page(api, repo_id, info.sha) if PAGE in files else ""
    if private and not info.private:
        raise UserError(
            f"{repo_id} is there already, and public; make it private on the Hub first, "
            "or leave --private out"
        )
    tags = {ref.name: ref.target_commit for ref in refs.tags}
    if tag is not None and tag in tags and tags[tag] != info.sha:
        taken = ", ".join(sorted(tags))
        raise UserError(f"{repo_id}: the tag {tag!r} names another version (tags: {taken})")
    return Remote(repo_id, info.sha, files, page, tags)


def _page(api: HfApi, repo_id: str, revision: str | None) -> str:
    path = api.hf_hub_download(repo_id, PAGE, repo_type="dataset", revision=revision)
    return Path(path).read_text("utf-8")


def upload(
    tree: Tree,
    remote: Remote,
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
        UserError: the Hub refuses or is out of reach, or somebody else committed meanwhile;
            the repository is then as it was.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi()
    tell = progress or (lambda _done, _total, _what: None)
    names = {path.relative_to(tree.root).as_posix(): path for path in tree.files}
    deleted = sorted(name for name in remote.files if is_ours(name) and name not in names)
    with hub_errors(remote.repo_id, None, _FIX):
        if remote.commit is None:
            api.create_repo(remote.repo_id, repo_type="dataset", private=private, exist_ok=True)
        additions = [CommitOperationAdd(name, str(path)) for name, path in names.items()]
        for done, addition in enumerate(additions):
            tell(done, len(additions), "files uploaded")
            _send(api, remote.repo_id, addition)
        tell(len(additions), len(additions), "files uploaded")
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
        # The client wraps what went wrong; only a trouble of the network is told in one line.
        if error.__cause__ is None:
            raise
        raise error.__cause__ from None
    finally:
        if ours:
            enable_progress_bars()
