"""What goes wrong on demand goes wrong as named, and the real client gets over it or says so.

Most faults are looked at with a plain connection: the real client waits a second or more before
each new try.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, HfApi, constants, get_session, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError

from tests.support.hub_server import HubServer

# Of the client itself, when it uploads.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = "ShareGPTVideo/train_video_and_instruction"
LARGE = bytes(range(256)) * 400
FILES = {"chunk_0.tar.gz": LARGE, "rows.jsonl": b'{"id": 1}\n' * 50}


@pytest.fixture(autouse=True)
def url(hub_server: HubServer) -> str:
    """Where the repository's files are."""
    hub_server.add_repo(REPO, FILES)
    return f"{hub_server.url}/datasets/{REPO}/resolve/main"


def test_cut_is_resumed_with_the_right_bytes(
    hub_server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The client keeps whole chunks only; its own are 10 MiB.
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 250)
    cut = hub_server.faults.add("chunk_0", "cut", after=1000, times=1)
    path = hf_hub_download(REPO, "chunk_0.tar.gz", repo_type="dataset")
    assert Path(path).read_bytes() == LARGE
    spans = [(sent.start, sent.sent) for sent in hub_server.transfers]
    assert spans == [(0, 1000), (1000, len(LARGE) - 1000)]
    assert cut.hits == 1
    assert cut.times == 0


def test_cut_is_exact(hub_server: HubServer, url: str) -> None:
    hub_server.faults.add("rows", "cut", after=7, times=2)
    content = FILES["rows.jsonl"]
    for _ in range(2):
        with get_session().stream("GET", f"{url}/rows.jsonl") as reply:
            assert reply.headers["content-length"] == str(len(content))
            chunks = reply.iter_raw()
            assert next(chunks) == content[:7]
            with pytest.raises(httpx2.RemoteProtocolError):
                next(chunks)
    assert get_session().get(f"{url}/rows.jsonl").content == content


def test_statuses(hub_server: HubServer, url: str) -> None:
    hub_server.faults.add("rows", status=429, retry_after=7)
    hub_server.faults.add(method="HEAD", status=503, times=2)
    first = get_session().get(f"{url}/rows.jsonl")
    assert (first.status_code, first.headers["retry-after"]) == (429, "7")
    assert get_session().get(f"{url}/rows.jsonl").status_code == 200
    heads = [get_session().head(f"{url}/rows.jsonl").status_code for _ in range(3)]
    assert heads == [503, 503, 200]
    hub_server.faults.add("rows", status=404, skip=2)
    gets = [get_session().get(f"{url}/rows.jsonl").status_code for _ in range(4)]
    assert gets == [200, 200, 404, 200]


def test_client_waits_and_tries_again(hub_server: HubServer) -> None:
    hub_server.faults.add("/tree/", status=429, retry_after=0)
    entries = HfApi().list_repo_tree(REPO, repo_type="dataset")
    assert [entry.path for entry in entries] == sorted(FILES)


def test_client_gives_up_on_what_it_does_not_try_again(hub_server: HubServer) -> None:
    hub_server.faults.add("/api/datasets/", status=500)
    with pytest.raises(HfHubHTTPError, match="500"):
        HfApi().dataset_info(REPO)


def test_dropped_request_does_nothing(hub_server: HubServer, url: str) -> None:
    hub_server.faults.add("rows", "drop")
    with pytest.raises(httpx2.RemoteProtocolError):
        get_session().get(f"{url}/rows.jsonl")
    assert not hub_server.transfers
    assert hub_server.requests == [("GET", f"/datasets/{REPO}/resolve/main/rows.jsonl")]


def test_lost_answer_to_a_commit_that_was_made(hub_server: HubServer) -> None:
    api = HfApi()
    api.create_repo("tester/rows", repo_type="dataset")
    lost = hub_server.faults.add("/commit/", "lost")
    with pytest.raises(httpx2.RemoteProtocolError):
        api.create_commit(
            "tester/rows",
            [CommitOperationAdd("a.txt", b"a")],
            commit_message="m",
            repo_type="dataset",
        )
    assert lost.hits == 1
    assert "a.txt" in hub_server.files("tester/rows")


def test_wrong_and_short_bytes_look_right(hub_server: HubServer, url: str) -> None:
    content = FILES["rows.jsonl"]
    hub_server.faults.add("rows", "wrong", after=3)
    hub_server.faults.add("rows", "short", after=10)
    wrong = get_session().get(f"{url}/rows.jsonl").content
    assert [at for at in range(len(content)) if wrong[at] != content[at]] == [3]
    short = get_session().get(f"{url}/rows.jsonl")
    assert (short.status_code, short.content) == (200, content[:10])
    assert short.headers["content-length"] == "10"


def test_client_refuses_a_short_file(hub_server: HubServer) -> None:
    hub_server.faults.add("rows", "short", after=10)
    with pytest.raises(OSError, match="Consistency check failed"):
        hf_hub_download(REPO, "rows.jsonl", repo_type="dataset")


def test_ranges_ignored(hub_server: HubServer, url: str) -> None:
    hub_server.faults.add("rows", "ignore-range")
    whole = get_session().get(f"{url}/rows.jsonl")  # has no range: does not use the fault up
    part = get_session().get(f"{url}/rows.jsonl", headers={"Range": "bytes=5-"})
    assert (part.status_code, part.content) == (200, whole.content)


def test_bytes_faults_wait_for_the_bytes(hub_server: HubServer, url: str) -> None:
    cut = hub_server.faults.add("chunk_0", "cut", after=5)
    assert get_session().head(f"{url}/chunk_0.tar.gz").status_code == 200
    assert get_session().get(f"{url}/chunk_0.tar.gz", follow_redirects=False).status_code == 302
    assert cut.hits == 0


def test_interrupted_upload_is_done_again_and_nothing_is_kept_of_the_first(
    hub_server: HubServer,
) -> None:
    api = HfApi()
    api.create_repo("tester/rows", repo_type="dataset")
    cut = hub_server.faults.add("/upload/", "cut", after=1000)
    content = LARGE[::-1]  # LARGE itself is in the storage, and would not be sent
    api.upload_file(
        path_or_fileobj=content, path_in_repo="a.zip", repo_id="tester/rows", repo_type="dataset"
    )
    assert cut.hits == 1
    assert hub_server.files("tester/rows")["a.zip"] == content


def test_client_killed_in_a_download(hub_server: HubServer, tmp_path: Path) -> None:
    stall = hub_server.faults.add("chunk_0", "stall", after=5000)
    code = (
        "from huggingface_hub import hf_hub_download\n"
        f"hf_hub_download({REPO!r}, 'chunk_0.tar.gz', repo_type='dataset', local_dir='.')"
    )
    environment = {**os.environ, **hub_server.environment()}
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment) as client:
        assert stall.struck.wait(60)
        client.send_signal(signal.SIGKILL)
    assert not (tmp_path / "chunk_0.tar.gz").exists()
    path = hf_hub_download(REPO, "chunk_0.tar.gz", repo_type="dataset", local_dir=tmp_path)
    assert Path(path).read_bytes() == LARGE


def test_unknown_kinds_and_paths_are_mistakes_of_the_test(hub_server: HubServer) -> None:
    with pytest.raises(AssertionError, match="explode"):
        hub_server.faults.add(kind="explode")  # type: ignore[arg-type] # the mistake itself
    reply = get_session().get(f"{hub_server.url}/api/nosuch")
    assert reply.status_code == 404
    assert "does not speak GET /api/nosuch" in reply.json()["error"]
