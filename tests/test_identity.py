"""Identities are versions that a person raises: pinned by results, and blind to the source."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import sharegptvideo
from sharegptvideo._io import write_json
from sharegptvideo.build.stage import begin
from sharegptvideo.errors import UserError
from sharegptvideo.eval.comparison import compare_runs
from sharegptvideo.eval.run_dir import EvalRunDir
from sharegptvideo.judges import open_judge
from tests.support.fresh_python import run_python
from tests.support.golden import FOLDER, Pin, compare, renew
from tests.support.golden_pins import PINS

FORMER = {"name": "answer-match", "kind": "rules", "version": 1, "hash": "0f" * 8}
IDENTITIES = """
import json
from sharegptvideo.data import registration
from sharegptvideo.data.stats.lexicon import built_in
from sharegptvideo.judges import open_judge
from sharegptvideo.synthetic import exact, world
from sharegptvideo.data.sources import world_folder
from sharegptvideo.training.run_dir import TRAINING_VERSION

world.build_world = lambda out, **_: None
print(json.dumps([
    registration.__file__,
    open_judge("answer-match").describe(),
    open_judge("exact").describe(),
    exact.RULES_VERSION,
    registration.TABLES_KEY,
    world_folder().name,
    built_in().version,
    TRAINING_VERSION,
]))
"""


@pytest.mark.parametrize("pin", PINS, ids=lambda pin: pin.name)
def test_results_are_those_of_the_version(pin: Pin, tmp_path: Path) -> None:
    problem = compare(pin, tmp_path)
    assert problem is None, problem


def test_no_golden_file_is_left_behind() -> None:
    assert {file.stem for file in FOLDER.glob("*.json")} == {pin.name for pin in PINS}
    assert len({pin.name for pin in PINS}) == len(PINS)
    # Where the message sends the reader, the version is.
    root = FOLDER.parents[1]
    for pin in PINS:
        assert f"{pin.constant}" in (root / pin.where).read_text("utf-8"), pin.where


def test_another_result_needs_a_higher_version(tmp_path: Path) -> None:
    def pin(version: int, **results: Any) -> Pin:
        return Pin("rules", "RULES", "rules.py", lambda: version, lambda _: results, tolerance)

    tolerance = 0.0
    first = pin(1, a="right", b=[1, 0.5])
    assert compare(first, tmp_path, tmp_path) == (
        "rules: no golden results yet; run `python tests/golden/make.py`"
    )
    assert renew(first, tmp_path, tmp_path) is None
    assert compare(first, tmp_path, tmp_path) is None
    changed = (
        'rules: results changed in 1 of 2 cases (\'a\': "right" before, "wrong" now); if that is '
        "meant, raise RULES in rules.py and run `python tests/golden/make.py`"
    )
    other = pin(1, a="wrong", b=[1, 0.5])
    assert compare(other, tmp_path, tmp_path) == changed
    assert renew(other, tmp_path, tmp_path) == changed  # nor is the file written over
    assert compare(first, tmp_path, tmp_path) is None

    raised = pin(2, a="wrong", b=[1, 0.5])
    assert "RULES is 2, the golden results are of 1" in str(compare(raised, tmp_path, tmp_path))
    assert renew(raised, tmp_path, tmp_path) is None
    assert compare(raised, tmp_path, tmp_path) is None
    assert "RULES was 2 and is 1" in str(renew(first, tmp_path, tmp_path))

    more = pin(2, a="wrong", b=[1, 0.5], c=None)
    assert "other cases" in str(compare(more, tmp_path, tmp_path))
    assert renew(more, tmp_path, tmp_path) is None  # a new case changes no result
    assert compare(more, tmp_path, tmp_path) is None

    for value in ([1, 0.6], [1.0], [True, 0.5], 1, {"b": 1}):
        assert "results changed" in str(compare(pin(2, b=value), tmp_path, tmp_path)), value
    tolerance = 0.2
    near = pin(2, a="wrong", b=[1, 0.6], c=None)
    assert compare(near, tmp_path, tmp_path) is None
    before = (tmp_path / "rules.json").read_bytes()
    assert renew(near, tmp_path, tmp_path) is None
    assert (tmp_path / "rules.json").read_bytes() == before


@pytest.mark.parametrize("name", ["answer_match", "tables"])
def test_a_pin_notices_a_change_of_the_code(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sharegptvideo.data.sources import tables
    from sharegptvideo.judges.rules import answer_match

    (pin,) = (pin for pin in PINS if pin.name == name)
    monkeypatch.setenv("SHAREGPTVIDEO_CACHE", str(tmp_path / "cache"))
    score, convert = answer_match.judge_statement, tables.convert

    def generous(case: Any) -> Any:
        return replace(score(case), score=5)

    def shouting(*arguments: Any) -> Any:
        row = convert(*arguments)
        return row | ({"answer": row["answer"].upper()} if row.get("answer") else {})

    monkeypatch.setattr(answer_match, "judge_statement", generous)
    monkeypatch.setattr(tables, "convert", shouting)
    monkeypatch.setattr(tables, "converted_block", lambda *_: None)  # else whole blocks at once
    problem = str(compare(pin, tmp_path))
    assert "results changed" in problem
    assert f"raise {pin.constant} in {pin.where} and run `python tests/golden/make.py`" in problem


def test_a_comment_changes_no_identity(tmp_path: Path) -> None:
    """The same identities from a copy of the package in which every file has one more comment."""
    package = Path(str(sharegptvideo.__file__)).parent
    copy = tmp_path / "copy" / "sharegptvideo"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("sharegptvideo", "eval", "training", "datasets_cards"):
        shutil.copytree(package.parent / name, copy.parent / name, ignore=ignored)
    files = [file for end in ("py", "yaml") for file in copy.parent.rglob(f"*.{end}")]
    assert len(files) > 200
    for file in files:
        with file.open("a", encoding="utf-8") as opened:
            opened.write("\n# One more comment.\n")
    found = [
        json.loads(run_python(IDENTITIES, tmp_path, PYTHONPATH=str(path)))
        for path in (package.parent, copy.parent)
    ]
    assert found[1][0] == str(copy / "data" / "registration.py")
    assert found[0][1:] == found[1][1:]
    assert found[0][1] == {"name": "answer-match", "kind": "rules", "version": 2}


# Folders of a time when the rules were known by a hash of their source.


def _run(judge: dict[str, Any]) -> dict[str, Any]:
    task = {"version": 1, "protocol": "caption-grounded", "judge": judge}
    return {"model": {"spec": "predictions:x"}, "judge": judge["name"], "tasks": {"t": task}}


def test_a_run_judged_by_former_rules_is_another_run(tmp_path: Path) -> None:
    now = open_judge("answer-match").describe()
    write_json(tmp_path / "run" / "run.json", _run(FORMER))
    with pytest.raises(UserError) as caught:
        EvalRunDir(tmp_path / "run", _run(now))
    message = str(caught.value)
    assert "t.judge.version 1 there, 2 here" in message
    assert "\n" not in message

    for name, judge in (("former", FORMER), ("now", now)):
        write_json(tmp_path / name / "run.json", _run(judge))
        write_json(tmp_path / name / "results.json", {"tasks": {}})
    with pytest.raises(UserError, match=r"judged differently, version 1, hash .*version 2 in") as e:
        compare_runs(tmp_path / "former", tmp_path / "now")
    assert "\n" not in str(e.value)


def test_rewards_by_former_rules_are_other_results(tmp_path: Path) -> None:
    begin(tmp_path / "rewards.json", {"judge": FORMER})
    with pytest.raises(UserError, match=r"judge\.version 1 there, 2 here"):
        begin(tmp_path / "rewards.json", {"judge": open_judge("answer-match").describe()})
