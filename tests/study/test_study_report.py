"""`study report`: the shipped experiments, with and without results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sharegptvideo import cli
from sharegptvideo._io import write_json, write_jsonl
from sharegptvideo._markdown import markdown_cell
from sharegptvideo.study import SCALES, list_experiments, load_experiment, run_study
from sharegptvideo.study.catalogue import KINDS
from sharegptvideo.study.node import with_ancestors
from tests.support.study_results import judge_quality, write_results


def report(*words: str) -> Result:
    return CliRunner().invoke(cli.app, ["study", "report", *words])


def test_all_shipped_experiments_are_in_the_report(tmp_path: Path) -> None:
    study = write_results(tmp_path / "study", judge_quality())
    done = report("--out", str(study), "--json")
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)
    assert figures["page"] == str(study / "report" / "index.html")
    states = {row["experiment"]: row["state"] for row in figures["contrasts"]}
    assert states == {one.name: "not run" for one in list_experiments()} | {
        "judge_quality": "5 seeds"
    }
    done = report("--out", str(study), "--to", str(tmp_path / "page"))
    assert done.stdout == f"{tmp_path / 'page' / 'index.html'}\n"
    assert "judge_quality: 5 seeds; supported\n" in done.stderr
    assert "video_used: not run; no verdict\n" in done.stderr
    text = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    for one in list_experiments():
        assert f'<section id="{one.name}">' in text


def test_a_folder_without_results_is_one_line(tmp_path: Path) -> None:
    done = report("--out", str(tmp_path))
    assert done.exit_code == 2
    assert done.stderr == (
        f"error: {tmp_path}: no results; first run sharegptvideo study run NAME --out {tmp_path}\n"
    )


@pytest.mark.parametrize("name", [one.name for one in list_experiments() if one.kind == "arms"])
def test_what_a_run_leaves_is_what_the_report_reads(tmp_path: Path, name: str) -> None:
    """All pieces of work are there, written by hand: two seeds, by level more or less right."""
    experiment, scale, study = load_experiment(name), SCALES["tiny"], tmp_path / "study"
    plan = KINDS[experiment.kind].plan(experiment, scale, [0, 1])
    rights: dict[str, int] = {}
    for place, nodes in enumerate(plan.values()):
        rights[nodes["sft_answers"].key] = 4
        rights[nodes["answers"].key] = 4 + place % 5
    for node in with_ancestors(node for nodes in plan.values() for node in nodes.values()):
        folder = study / "stages" / node.key
        right = rights.get(node.key, 0)
        findings = {
            "n_pairs": 30,
            "agreement": {"kappa": None if "random" in str(node.settings) else 0.5, "share": 0.75},
            "n": 12,
            "accuracy": right / 12,
            "contradictions": 0.25,
        }
        if node.stage == "dpo":
            logged = {"step": 1, "logps/chosen": -3.0, "rewards/accuracies": 0.5}
            write_jsonl(folder / "model" / "log.jsonl", [logged])
            evaluated = [{"step": step, "task": "t", "status": "ok"} for step in (0, 1, 2, 3)]
            write_jsonl(folder / "model" / "evals.jsonl", evaluated)
        write_json(folder / "done.json", {"findings": findings, "seconds": 1.5})
        if node.key in rights:
            rows = [
                {"id": str(at), "video": f"v{at // 3}", "kind": "colour", "right": at < right}
                for at in range(12)
            ]
            write_jsonl(folder / "outcomes.jsonl", rows)
    made = run_study([name], study, scale="tiny", seeds=2, processes=1)[name]
    assert made["versions"]["torch"]
    figures = json.loads(report("--out", str(study), "--json").stdout)["contrasts"]
    (row,) = (each for each in figures if each["experiment"] == name)
    assert row["state"] == f"2 of {experiment.seeds} seeds, scale tiny"
    assert row["value"] == pytest.approx(made["contrast"]["value"])
    text = (study / "report" / "README.md").read_text(encoding="utf-8")
    for level in experiment.levels:
        assert markdown_cell(level) in text
    assert f"study run {name} --out STUDY --scale tiny --seeds 2" in text
    assert (study / "report" / "figures" / f"{name}.svg").is_file()
