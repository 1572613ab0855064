"""Cards of what models wrote: their facts are those of the run; nothing worthless is published."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo._io import write_json, write_jsonl
from sharegptvideo.build.outputs import FILES, write_dataset
from sharegptvideo.data.publish import publish
from sharegptvideo.errors import UserError
from tests.build.test_outputs import rows_of

Row = dict[str, Any]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run of building: four captions made, one of them flagged, one clip failed."""
    out = tmp_path / "run"
    rows = [row | {"error": None} for row in rows_of("captions", 4)]
    failed = rows_of("captions", 5)[4] | {"caption": None, "error": "no | such clip"}
    write_jsonl(out / "captions.jsonl", [*rows, failed])
    write_json(out / "captions.json", {"settings": {}, "report": {"n_rows": 5}})
    gates = {"by_gate": {"refusal": 1, "too-short": 0}, "skipped": {"leak-name": "no test sets"}}
    write_json(out / "captions_gates.json", {"rows": 4, "flagged": 1} | gates)
    written(out, {"r2": ["refusal"]})
    return out


def written(out: Path, flags: Mapping[str, list[str]], *, keep_all: bool = False) -> None:
    write_dataset("captions", rows_of("captions", 4), out, flags=flags, keep_all=keep_all)


def card(run: Path, **options: Any) -> str:
    out = run.parent / "tree"
    publish(run, "tester/mine", dry_run=out, **options)
    return (out / "captions" / "README.md").read_text("utf-8")


def test_a_card_says_how_the_rows_were_made(run: Path) -> None:
    text = card(run, licence="cc-by-4.0")
    for line in (
        "Made by `sharegptvideo build` 0.1.0; each stage starts from the rows of the one before.",
        # 5 rows, each with two attempts at 0.25 dollars in all
        "| captions | `openai:vlm` | `vlm-1` | 5 | 1 | 0 (0) | 0 | $1.25 |",
        "- captions: prompt version 3, hash abababababababab",
        "- captions: frames of a clip 2",
        "- captions: failed: no \\| such clip 1",
        "- captions: 1 of 4 rows flagged by gates: refusal 1, too-short 0",
        "- captions: gate leak-name not applied: no test sets",
        "- 1 flagged row left out",
    ):
        assert line in text.splitlines(), text
    assert "Rows: `cc-by-4.0`." in text
    assert "the licence is not known" in card(run)  # never guessed
    assert "The clips come from a camera of mine." in card(run, origin="a camera of mine.")


def test_of_rows_that_were_changed_since_a_card_says_nothing(run: Path) -> None:
    (shard,) = (run / "captions").glob("*.parquet")
    shard.unlink()
    assert "Made by `sharegptvideo build`" in card(run)  # the same rows in the release's form
    with (run / FILES["captions"]).open("a") as lines:
        lines.write('{"id": "x", "video": "x", "prompt": "?", "caption": "Mine."}\n')
    assert "who wrote the texts, and how, is for the publisher to say" in card(run)


def test_rows_without_worth_are_not_published(run: Path) -> None:
    everything = {f"r{n}": ["repeats-itself"] for n in range(4)}
    for keep_all in (False, True):
        written(run, everything, keep_all=keep_all)
        with pytest.raises(UserError, match=r"captions: no row passes .*\(repeats-itself 4\)"):
            card(run)
    assert not (run.parent / "tree").exists()


def test_rows_of_test_sets_are_published_by_no_option(run: Path) -> None:
    written(run, {"r1": ["leak-sight"]}, keep_all=True)
    with pytest.raises(UserError, match=r"rows that are in test sets were kept \(leak-sight 1\)"):
        card(run, allow=["leak-name"])
    written(run, {"r1": ["leak-sight"], "r2": ["too-short"]})
    assert "- 2 flagged rows left out" in card(run)
    written(run, {"r2": ["too-short"]}, keep_all=True)
    assert "- 1 flagged row kept" in card(run)


def test_another_file_of_that_name_says_nothing(run: Path) -> None:
    for content in ({"captions": {"n_rows": 1}}, {"captions": [1]}, {"name": "mine"}):
        write_json(run / "dataset.json", content)
        assert "is for the publisher to say" in card(run)
