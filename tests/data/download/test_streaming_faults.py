"""Rows streamed from the Hub over a line that fails: all of them, or one line that says so."""

from __future__ import annotations

import pytest

from sharegptvideo import load_dataset
from sharegptvideo.data.sources.hub import TRAIN_REPO
from sharegptvideo.errors import UserError
from tests.support.hub_server import HubServer

Files = dict[str, dict[str, bytes]]


@pytest.fixture
def rows(release_hub: HubServer) -> int:
    """How many rows there are; they are read once without a fault."""
    count = len(list(load_dataset("qa", streaming=True)))
    assert count == 21
    release_hub.forget()
    return count


def test_a_connection_cut_in_the_middle(release_hub: HubServer, rows: int) -> None:
    release_hub.faults.add(r"video_qa\.jsonl", "cut", after=1500)
    loaded = list(load_dataset("qa", streaming=True))
    assert len(loaded) == len({row["question"] for row in loaded}) == rows
    assert all(fault.times == 0 for fault in release_hub.faults.all)


@pytest.mark.usefixtures("rows")
def test_a_body_that_ends_early_and_claims_to_be_whole(
    release_hub: HubServer, contents: Files
) -> None:
    """Ten whole lines and no more: without the Hub's own size the others would not be missed."""
    name = "video_instruction/train/qa/video_qa.jsonl"
    lines = contents[TRAIN_REPO][name].splitlines(keepends=True)
    ten = len(b"".join(lines[:10]))
    release_hub.faults.add(r"video_qa\.jsonl", "short", after=ten)
    with pytest.raises(UserError) as caught:
        list(load_dataset("qa", streaming=True))
    commit = release_hub.commits(TRAIN_REPO)[0].oid
    whole = len(contents[TRAIN_REPO][name])
    assert str(caught.value) == (
        f"hf://datasets/{TRAIN_REPO}@{commit}/{name}: ended after {ten:,} of {whole:,} bytes; "
        "try again, or without streaming"
    )


@pytest.mark.usefixtures("rows")
def test_a_connection_that_always_fails(release_hub: HubServer) -> None:
    release_hub.faults.add(r"video_qa\.jsonl", "cut", after=10, times=99)
    with pytest.raises(UserError, match=rf"^{TRAIN_REPO}: the Hub cannot be reached \(Remote"):
        list(load_dataset("qa", streaming=True))
