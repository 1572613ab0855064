"""The test Hub as a reader sees it: the real `huggingface_hub`, over real sockets."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
from huggingface_hub import (
    HfApi,
    HfFileSystem,
    RepoFile,
    get_session,
    hf_hub_download,
    snapshot_download,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.support.hub_server import HubServer

REPO = "ShareGPTVideo/train_video_and_instruction"
FILES = {
    "README.md": b"---\nlicense: mit\n---\n# Rows\n",
    "video_instruction/train/qa/rows a.jsonl": b'{"id": "1"}\n' * 3,
    "video_instruction/train/dpo/pairs.jsonl": b"{}\n",
    "train_300k/chunk_0.tar.gz": bytes(range(256)) * 40,
    "empty.txt": b"",
}


@pytest.fixture(autouse=True)
def api(hub_server: HubServer) -> HfApi:
    """The client, with the repository on the Hub."""
    hub_server.add_repo(REPO, FILES)
    return HfApi()


def test_every_file_arrives_as_it_is(hub_server: HubServer) -> None:
    folder = Path(snapshot_download(REPO, repo_type="dataset", max_workers=2))
    found = {path: (folder / path).read_bytes() for path in FILES}
    assert found == FILES == hub_server.files(REPO)
    assert folder.name == hub_server.commits(REPO)[0].oid
    # The client knows that an empty file is empty; what it has, it does not ask for again.
    snapshot_download(REPO, repo_type="dataset")
    assert sorted(hub_server.fetched) == sorted(path for path in FILES if FILES[path])


def test_tree_names_sizes_and_checksums(api: HfApi, tmp_path: Path) -> None:
    entries = api.list_repo_tree(REPO, repo_type="dataset", recursive=True)
    files = {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}
    assert set(files) == set(FILES)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    for path, entry in files.items():
        assert entry.size == len(FILES[path])
        if path.endswith(".tar.gz"):
            assert entry.lfs is not None
            assert entry.lfs.sha256 == hashlib.sha256(FILES[path]).hexdigest()
            continue
        assert entry.lfs is None
        git = ["git", "hash-object", "--stdin"]
        done = subprocess.run(git, cwd=tmp_path, input=FILES[path], capture_output=True, check=True)
        assert entry.blob_id == done.stdout.decode().strip()


def test_folders_one_at_a_time(api: HfApi) -> None:
    def names(folder: str | None) -> list[str]:
        return [entry.path for entry in api.list_repo_tree(REPO, folder, repo_type="dataset")]

    assert names(None) == ["README.md", "empty.txt", "train_300k", "video_instruction"]
    below = "video_instruction/train"
    assert names(below) == [f"{below}/dpo", f"{below}/qa"]
    with pytest.raises(EntryNotFoundError):
        names("video_instruction/nosuch")


def test_long_lists_come_in_pages(hub_server: HubServer, api: HfApi) -> None:
    hub_server.page_size = 3
    hub_server.add_repo(REPO, {f"{number}.jsonl": b"{}" for number in range(10)})
    found = [entry.path for entry in api.list_repo_tree(REPO, repo_type="dataset")]
    assert found == [f"{number}.jsonl" for number in range(10)]
    assert sum("/tree/" in path for _, path in hub_server.requests) == 4


def test_paths_info_leaves_out_what_is_not_there(api: HfApi) -> None:
    asked = ["train_300k", "README.md", "nosuch"]
    found = api.get_paths_info(REPO, asked, repo_type="dataset", expand=True)
    assert [entry.path for entry in found] == asked[:2]
    assert found[0].last_commit is not None
    assert found[0].last_commit.title == "files of a test"


def test_last_commit_is_the_one_that_changed_the_path(hub_server: HubServer, api: HfApi) -> None:
    first = hub_server.commits(REPO)[0].oid
    second = hub_server.add_repo(REPO, {**FILES, "README.md": b"# Other\n"})
    names = ["README.md", "train_300k"]
    found = api.get_paths_info(REPO, names, repo_type="dataset", expand=True)
    assert [entry.last_commit and entry.last_commit.oid for entry in found] == [second, first]


def test_revisions(hub_server: HubServer, api: HfApi) -> None:
    old = hub_server.commits(REPO)[0].oid
    hub_server.repo(REPO).tags["v1.0"] = old
    new = hub_server.add_repo(REPO, {"README.md": b"# Other\n"})
    for revision, oid in (("main", new), ("v1.0", old), (old, old), (old[:8], old)):
        assert api.dataset_info(REPO, revision=revision).sha == oid
        path = hf_hub_download(REPO, "README.md", repo_type="dataset", revision=revision)
        assert Path(path).read_bytes() == hub_server.files(REPO, oid)["README.md"]
    assert {
        tag.name: tag.target_commit for tag in api.list_repo_refs(REPO, repo_type="dataset").tags
    } == {"v1.0": old}
    log = api.list_repo_commits(REPO, repo_type="dataset")
    assert [commit.commit_id for commit in log] == [new, old]


def test_four_kinds_of_not_found(api: HfApi) -> None:
    with pytest.raises(RepositoryNotFoundError):
        api.dataset_info("ShareGPTVideo/nosuch")
    with pytest.raises(RepositoryNotFoundError):
        api.model_info(REPO)  # there, but as a dataset
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download(REPO, "README.md", repo_type="dataset", revision="nosuch")
    with pytest.raises(EntryNotFoundError):
        hf_hub_download(REPO, "nosuch.md", repo_type="dataset")


def test_private_is_absent_without_a_token_and_for_others(hub_server: HubServer) -> None:
    hub_server.add_repo("tester/secret", FILES, private=True)
    hub_server.add_repo("someone/secret", FILES, private=True)
    assert HfApi().dataset_info("tester/secret").private
    for name, token, status in (("tester", False, 401), ("someone", None, 404)):
        with pytest.raises(RepositoryNotFoundError) as caught:
            hf_hub_download(f"{name}/secret", "README.md", repo_type="dataset", token=token)
        assert caught.value.response.status_code == status


def test_token_that_is_none_of_ours(api: HfApi) -> None:
    with pytest.raises(HfHubHTTPError, match="Invalid credentials") as caught:
        HfApi(token="hf_wrong").dataset_info(REPO)
    assert caught.value.response.status_code == 401
    assert not isinstance(caught.value, RepositoryNotFoundError)
    with pytest.raises(HfHubHTTPError):
        HfApi(token="hf_wrong").whoami()
    assert api.whoami()["name"] == "tester"


def test_gated_says_so(hub_server: HubServer) -> None:
    hub_server.add_repo("someone/gated", FILES, gated=True)
    assert HfApi().dataset_info("someone/gated").gated == "auto"
    with pytest.raises(GatedRepoError):
        hf_hub_download("someone/gated", "README.md", repo_type="dataset")


@pytest.mark.parametrize("path", ["train_300k/chunk_0.tar.gz", "README.md"])
def test_ranges(hub_server: HubServer, path: str) -> None:
    content = FILES[path]
    url = f"{hub_server.url}/datasets/{REPO}/resolve/main/{path}"
    for asked, start, stop in (
        ("bytes=5-9", 5, 10),
        ("bytes=20-", 20, len(content)),
        ("bytes=-4", len(content) - 4, len(content)),
        (f"bytes=3-{len(content) + 99}", 3, len(content)),
    ):
        reply = get_session().get(url, headers={"Range": asked})
        assert (reply.status_code, reply.content) == (206, content[start:stop])
        whole = f"bytes {start}-{stop - 1}/{len(content)}"
        assert reply.headers["content-range"] == whole
    past = get_session().get(url, headers={"Range": f"bytes={len(content)}-"})
    assert past.status_code == 416


def test_large_files_are_elsewhere_and_their_links_are_signed(hub_server: HubServer) -> None:
    url = f"{hub_server.url}/datasets/{REPO}/resolve/main/train_300k/chunk_0.tar.gz"
    token = {"Authorization": f"Bearer {hub_server.token}"}
    reply = get_session().head(url, headers=token, follow_redirects=False)
    link = reply.headers["location"]
    assert reply.status_code == 302
    assert link.startswith(hub_server.storage_url)
    assert reply.headers["x-linked-size"] == str(len(FILES["train_300k/chunk_0.tar.gz"]))
    assert get_session().get(link).status_code == 200
    assert get_session().get(link, headers=token).status_code == 400
    assert get_session().get(link.split("?")[0]).status_code == 403


def test_file_system_reads_a_part_of_a_file(hub_server: HubServer) -> None:
    system = HfFileSystem()
    root = f"datasets/{REPO}"
    assert system.glob(f"{root}/**/*.jsonl") == [
        f"{root}/{path}" for path in sorted(FILES) if path.endswith(".jsonl")
    ]
    with system.open(f"{root}/train_300k/chunk_0.tar.gz", block_size=512) as file:
        file.seek(1000)
        assert file.read(24) == FILES["train_300k/chunk_0.tar.gz"][1000:1024]
    assert sum(transfer.sent for transfer in hub_server.transfers) < 2048
