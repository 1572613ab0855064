"""One file over a line that fails: the right bytes in the end, none asked for twice."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from sharegptvideo.data.download.fetch import RemoteFile, Stop, Stopped, digest_of, fetch
from sharegptvideo.errors import UserError
from tests.support.hub_server import HubServer

REPO = "test-org/data"
CONTENT = random.Random(0).randbytes(300_000)
Case = tuple[RemoteFile, Callable[..., int]]


class Waits(Stop):
    """Keeps the seconds that are to be waited, and waits none."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.asked.append(timeout or 0.0)
        return self.is_set()


@pytest.fixture(params=["a.tar.gz", "a.jsonl"])
def remote(
    request: pytest.FixtureRequest,
    hub_server: HubServer,
    tmp_path: Path,
) -> Case:
    """A large file (LFS, SHA-256) and a regular one (git's id), and how to fetch them."""
    content = CONTENT if request.param == "a.tar.gz" else CONTENT.hex().encode()[:300_000]
    commit = hub_server.add_repo(REPO, {request.param: content}, private=True)
    if request.param == "a.tar.gz":
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
    else:
        digest = "git:" + hashlib.sha1(b"blob 300000\0" + content).hexdigest()
    file = RemoteFile(REPO, commit, request.param, len(content), digest)

    def run(stop: Stop | None = None) -> int:
        """Fetch and compare; gives the sum of what `advance` was called with."""
        counts: list[int] = []
        part = tmp_path / "part"
        fetch(file, part, advance=counts.append, stop=stop or Waits())
        assert part.read_bytes() == content
        return sum(counts)

    return file, run


def _starts(hub: HubServer) -> list[int]:
    return [transfer.start for transfer in hub.transfers]


def test_whole(remote: Case, hub_server: HubServer) -> None:
    assert remote[1]() == 300_000
    assert _starts(hub_server) == [0]


def test_connections_cut(remote: Case, hub_server: HubServer) -> None:
    hub_server.faults.add(r"/a\.", "cut", after=100_000, times=3)
    assert remote[1]() == 300_000
    starts = _starts(hub_server)
    assert len(starts) >= 3
    assert starts == sorted(set(starts))  # each goes on where the last ended
    assert max(starts) >= 200_000


def test_every_connection_cut_after_a_little(remote: Case, hub_server: HubServer) -> None:
    """More cuts than tries: only attempts that bring nothing are counted."""
    hub_server.faults.add(r"/a\.", "cut", after=20_000, times=1000)
    assert remote[1]() == 300_000
    assert len(_starts(hub_server)) == 15


@pytest.mark.parametrize("status", [429, 500, 503, 408])
def test_server_errors_pass(remote: Case, hub_server: HubServer, status: int) -> None:
    fault = hub_server.faults.add(r"/a\.", status=status, times=3, retry_after=0)
    assert remote[1]() == 300_000
    assert fault.hits == 3


def test_waits_as_long_as_the_server_asks(remote: Case, hub_server: HubServer) -> None:
    """Or twice as long after each attempt that brings nothing: the third and fourth wait."""
    hub_server.faults.add(r"/a\.", status=429, retry_after=7)
    hub_server.faults.add(r"/a\.", status=429, headers={"RateLimit": '"resolvers";r=0;t=21'})
    hub_server.faults.add(r"/a\.", status=503, times=2)
    hub_server.faults.add(r"/a\.", status=429, retry_after=99_999)
    stop = Waits()
    remote[1](stop)
    assert stop.asked == [7, 21, 4, 8, 600]


def test_connection_dropped_before_an_answer(remote: Case, hub_server: HubServer) -> None:
    hub_server.faults.add(r"/a\.", "drop", times=3)
    assert remote[1]() == 300_000


def test_server_that_cannot_resume(remote: Case, hub_server: HubServer) -> None:
    hub_server.faults.add(r"/a\.", "cut", after=100_000)
    hub_server.faults.add(r"/a\.", "ignore-range")
    assert remote[1]() == 300_000
    assert _starts(hub_server) == [0, 0]


def test_server_that_cannot_resume_and_always_cuts(remote: Case, hub_server: HubServer) -> None:
    """Bytes come each time, but never further: that has an end."""
    hub_server.faults.add(r"/a\.", "cut-whole", after=100_000, times=100)
    with pytest.raises(UserError, match="run the same command again, it goes on where it stopped"):
        remote[1]()
    assert len(_starts(hub_server)) == 9


def test_no_answer(remote: Case, hub_server: HubServer) -> None:
    fault = hub_server.faults.add(r"/a\.", "drop", times=99)
    with pytest.raises(UserError, match=r"the Hub cannot be reached \(RemoteProtocolError\); run"):
        remote[1]()
    assert fault.hits == 8


def test_body_that_ends_early_and_claims_to_be_whole(remote: Case, hub_server: HubServer) -> None:
    hub_server.faults.add(r"/a\.", "short", after=50_000)
    assert remote[1]() == 300_000


def test_what_lies_there_is_kept(remote: Case, hub_server: HubServer, tmp_path: Path) -> None:
    remote[1]()
    whole = (tmp_path / "part").read_bytes()
    hub_server.forget()
    assert remote[1]() == 0
    assert _starts(hub_server) == []
    (tmp_path / "part").write_bytes(whole[:123_456])
    assert remote[1]() == 300_000 - 123_456
    assert _starts(hub_server) == [123_456]
    (tmp_path / "part").write_bytes(whole + b"too much")
    assert remote[1]() == 300_000


def test_wrong_bytes_are_fetched_again(remote: Case, hub_server: HubServer, tmp_path: Path) -> None:
    hub_server.faults.add(r"/a\.", "wrong", after=1000)
    assert remote[1]() == 300_000
    (tmp_path / "part").write_bytes(bytes(200_000))
    assert (
        remote[1]() == 100_000
    )  # the rest, then all of it again; -300,000 for what was thrown away
    assert _starts(hub_server) == [0, 0, 200_000, 0]


def test_wrong_bytes_twice(remote: Case, hub_server: HubServer, tmp_path: Path) -> None:
    hub_server.faults.add(r"/a\.", "wrong", after=1000, times=2)
    with pytest.raises(UserError) as caught:
        remote[1]()
    assert str(caught.value) == (
        f"{REPO}: {remote[0].path} came twice with other bytes than the Hub's checksum says; "
        "try later, or another network"
    )
    assert not (tmp_path / "part").exists()


def test_stopped_in_the_middle(remote: Case, tmp_path: Path) -> None:
    stop = Stop()
    with pytest.raises(Stopped):
        fetch(remote[0], tmp_path / "part", advance=lambda _count: stop.set(), stop=stop)
    there = (tmp_path / "part").stat().st_size
    assert 0 < there < 300_000
    assert remote[1]() == 300_000 - there


def test_what_the_hub_refuses_is_not_tried_again(
    remote: Case, hub_server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = hub_server.faults.add(r"/a\.", status=403, times=9)
    with pytest.raises(UserError, match=rf"^{REPO}: the Hub answered 403 Forbidden; "):
        remote[1]()
    assert fault.hits == 1
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    hub_server.faults.clear()
    with pytest.raises(UserError, match=r"401 Unauthorized; set another HF_TOKEN: it is wrong"):
        remote[1]()


def test_server_errors_that_stay(remote: Case, hub_server: HubServer) -> None:
    fault = hub_server.faults.add(r"/a\.", times=99)
    with pytest.raises(UserError, match="the Hub answered 500 Internal Server Error"):
        remote[1]()
    assert fault.hits == 8


def test_digests_of_local_files(remote: Case, tmp_path: Path) -> None:
    remote[1]()
    assert digest_of(tmp_path / "part", remote[0], Stop()) == remote[0].digest
    (tmp_path / "part").write_bytes(b"what")  # printf what | git hash-object --stdin; sha256sum
    assert digest_of(tmp_path / "part", remote[0], Stop()) in {
        "git:" + hashlib.sha1(b"blob 4\0what").hexdigest(),
        "sha256:749ab2c0d06c42ae3b841b79e79875f02b3a042e43c92378cd28bd444c04d284",
    }


def test_server_that_sends_more_than_it_said(remote: Case, hub_server: HubServer) -> None:
    """What comes beyond the announced size is not read: it need not end."""
    fault = hub_server.faults.add(r"/a\.", "endless")
    assert remote[1]() == 300_000
    assert fault.struck.wait(30)
