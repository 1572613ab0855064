"""The test Hub as a writer sees it: one commit or none, and nothing uploaded twice."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_session
from huggingface_hub.errors import (
    BadRequestError,
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
)

from tests.support.hub_server import HubServer

# Of the client itself, when it uploads.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = "tester/rows"
SHARD = b"PAR1" + bytes(range(256)) * 50 + b"PAR1"
CARD = b"---\nlicense: mit\n---\n# Rows\n"


@pytest.fixture
def api(hub_server: HubServer) -> HfApi:
    """The client, with an empty dataset made by it."""
    api = HfApi()
    url = api.create_repo(REPO, repo_type="dataset")
    assert url == f"{hub_server.url}/datasets/{REPO}"
    return api


def add(path: str, content: bytes) -> CommitOperationAdd:
    """One file for a commit."""
    return CommitOperationAdd(path, content)


def commit(api: HfApi, *operations: CommitOperationAdd | CommitOperationDelete) -> str:
    """One commit; gives its id."""
    made = api.create_commit(REPO, operations, commit_message="rows", repo_type="dataset")
    return str(made.oid)


def test_create(hub_server: HubServer, api: HfApi) -> None:
    assert list(hub_server.files(REPO)) == [".gitattributes"]
    assert not api.dataset_info(REPO).private
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo(REPO, repo_type="dataset")
    api.create_repo(REPO, repo_type="dataset", exist_ok=True)
    api.create_repo("test-org/rows", repo_type="dataset", private=True)
    assert hub_server.repo("test-org/rows").private
    with pytest.raises(HfHubHTTPError, match="403"):
        api.create_repo("someone/rows", repo_type="dataset")
    with pytest.raises(HfHubHTTPError, match="401"):
        api.create_repo("tester/other", repo_type="dataset", token=False)
    assert len(hub_server.repos) == 2


def test_one_commit_holds_all(hub_server: HubServer, api: HfApi, tmp_path: Path) -> None:
    (tmp_path / "big.jsonl").write_bytes(b'{"id": 1}\n' * ((1 << 20) + 1))  # text, over 10 MiB
    oid = commit(
        api,
        add("README.md", CARD),
        add("qa/train-00000-of-00001.parquet", SHARD),
        add("empty.parquet", b""),
        CommitOperationAdd("big.jsonl", tmp_path / "big.jsonl"),
    )
    files = hub_server.files(REPO)
    assert files.pop(".gitattributes")
    assert files == {
        "README.md": CARD,
        "qa/train-00000-of-00001.parquet": SHARD,
        "empty.parquet": b"",
        "big.jsonl": (tmp_path / "big.jsonl").read_bytes(),
    }
    log = hub_server.commits(REPO)
    assert [found.oid for found in log] == [oid, log[1].oid]
    assert log[0].parent == log[1].oid
    assert len(hub_server.objects) == 2


def test_what_is_there_is_not_uploaded_again(hub_server: HubServer, api: HfApi) -> None:
    api.preupload_lfs_files(REPO, [add("a.parquet", SHARD)], repo_type="dataset")
    hub_server.forget()
    first = commit(api, add("a.parquet", SHARD))
    assert not [path for method, path in hub_server.requests if method == "PUT"]
    assert commit(api, add("a.parquet", SHARD)) == first  # no change, no commit
    assert len(hub_server.commits(REPO)) == 2


def test_upload_in_parts(hub_server: HubServer, api: HfApi) -> None:
    hub_server.part_size = 5000
    commit(api, add("a.parquet", SHARD))
    assert hub_server.files(REPO)["a.parquet"] == SHARD
    puts = [path for method, path in hub_server.requests if method == "PUT"]
    assert len(puts) == len(SHARD) // 5000 + 1


def test_delete(hub_server: HubServer, api: HfApi) -> None:
    commit(api, add("old/a.txt", b"a"), add("old/b.txt", b"b"), add("c.txt", b"c"))
    commit(api, CommitOperationDelete("old/"), add("d.txt", b"d"))
    assert sorted(hub_server.files(REPO)) == [".gitattributes", "c.txt", "d.txt"]
    with pytest.raises(EntryNotFoundError):
        commit(api, CommitOperationDelete("nosuch.txt"), add("e.txt", b"e"))
    assert "e.txt" not in hub_server.files(REPO)


def test_commit_on_a_stale_parent(hub_server: HubServer, api: HfApi) -> None:
    start = hub_server.commits(REPO)[0].oid
    commit(api, add("a.txt", b"a"))
    with pytest.raises(HfHubHTTPError, match="412"):
        api.create_commit(
            REPO,
            [add("b.txt", b"b")],
            commit_message="late",
            parent_commit=start,
            repo_type="dataset",
        )
    assert "b.txt" not in hub_server.files(REPO)


def test_commit_is_refused_whole(hub_server: HubServer, api: HfApi) -> None:
    before = hub_server.commits(REPO)
    with pytest.raises(ValueError, match="Invalid metadata"):
        commit(api, add("README.md", b"---\nlicense: [\n---\n"), add("a.txt", b"a"))
    unknown = add("a.parquet", SHARD)
    unknown._upload_mode, unknown._is_uploaded = "lfs", True  # says so, and has not
    with pytest.raises(BadRequestError, match="does not exist"):
        commit(api, add("a.txt", b"a"), unknown)
    binary = add("b.parquet", SHARD)
    binary._upload_mode = "regular"
    with pytest.raises(BadRequestError, match="by LFS"):
        commit(api, add("a.txt", b"a"), binary)
    with pytest.raises(HfHubHTTPError, match="404"):
        api.create_commit(
            REPO, [add("a", b"a")], commit_message="m", revision="nosuch", repo_type="dataset"
        )
    assert hub_server.commits(REPO) == before


@pytest.mark.parametrize("path", ["../a", "a/../b", "/a", "a//b", ".git/config", ""])
def test_paths_that_are_refused(hub_server: HubServer, api: HfApi, path: str) -> None:
    del api
    header = {"key": "header", "value": {"summary": "m"}}
    file = {"key": "file", "value": {"path": path, "content": ""}}
    reply = get_session().post(
        f"{hub_server.url}/api/datasets/{REPO}/commit/main",
        content=f"{json.dumps(header)}\n{json.dumps(file)}\n",
        headers={"Authorization": f"Bearer {hub_server.token}"},
    )
    assert reply.status_code == 400
    assert len(hub_server.commits(REPO)) == 1


def test_no_right_to_write(hub_server: HubServer, api: HfApi) -> None:
    hub_server.add_repo("someone/rows", {"a.txt": b"a"})
    for repo, token, status in (("someone/rows", None, "403"), (REPO, False, "401")):
        with pytest.raises(HfHubHTTPError, match=status):
            api.upload_file(
                path_or_fileobj=b"b",
                path_in_repo="b.txt",
                repo_id=repo,
                repo_type="dataset",
                token=token,
            )
    assert hub_server.files("someone/rows") == {"a.txt": b"a"}
    assert "b.txt" not in hub_server.files(REPO)


def test_upload_needs_the_announced_bytes_and_a_signed_link(
    hub_server: HubServer, api: HfApi
) -> None:
    del api
    oid = hashlib.sha256(SHARD).hexdigest()
    action = hub_server.upload_action(hub_server.repo(REPO), oid, len(SHARD))
    link = action["actions"]["upload"]["href"]
    assert get_session().put(link, content=SHARD[:-1]).status_code == 400
    assert get_session().put(link.split("?")[0], content=SHARD).status_code == 403
    assert oid not in hub_server.objects
    assert get_session().put(link, content=iter([SHARD[:100], SHARD[100:]])).status_code == 200
    assert hub_server.objects[oid] == SHARD


def test_tags_and_branches(hub_server: HubServer, api: HfApi) -> None:
    start = hub_server.commits(REPO)[0].oid
    api.create_tag(REPO, tag="v1.0", tag_message="first", repo_type="dataset")
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_tag(REPO, tag="v1.0", repo_type="dataset")
    api.create_tag(REPO, tag="v1.0", repo_type="dataset", exist_ok=True)
    api.create_branch(REPO, branch="try/one", repo_type="dataset")
    api.create_commit(
        REPO, [add("a", b"a")], commit_message="m", revision="try/one", repo_type="dataset"
    )
    refs = api.list_repo_refs(REPO, repo_type="dataset")
    assert [(ref.name, ref.target_commit) for ref in refs.tags] == [("v1.0", start)]
    assert [ref.name for ref in refs.branches] == ["main", "try/one"]
    assert "a" in hub_server.files(REPO, "try/one")
    assert "a" not in hub_server.files(REPO)
    api.delete_tag(REPO, tag="v1.0", repo_type="dataset")
    api.delete_branch(REPO, branch="try/one", repo_type="dataset")
    assert not hub_server.repo(REPO).tags
    with pytest.raises(HfHubHTTPError, match="403"):
        api.delete_branch(REPO, branch="main", repo_type="dataset")


def test_settings_and_end_of_a_repository(hub_server: HubServer, api: HfApi) -> None:
    api.update_repo_settings(REPO, private=True, repo_type="dataset")
    assert hub_server.repo(REPO).private
    api.auth_check(REPO, repo_type="dataset", write=True)
    with pytest.raises(RepositoryNotFoundError):
        api.auth_check(REPO, repo_type="dataset", token=False)
    api.delete_repo(REPO, repo_type="dataset")
    assert not api.repo_exists(REPO, repo_type="dataset")


def test_pull_requests_are_not_spoken(hub_server: HubServer, api: HfApi) -> None:
    with pytest.raises(HfHubHTTPError, match="501"):
        api.create_commit(
            REPO, [add("a", b"a")], commit_message="m", repo_type="dataset", create_pr=True
        )
    assert len(hub_server.commits(REPO)) == 1
