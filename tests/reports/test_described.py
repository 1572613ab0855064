"""Pages of runs whose answers are neither right nor wrong, or are judged two at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from sharegptvideo._io import write_json, write_jsonl
from sharegptvideo.cli import app
from sharegptvideo.eval import judge_predictions
from sharegptvideo.reports.run.record import collect_samples, open_run
from tests.support.made_captions import WORLD_CAPTIONS


def test_descriptions_are_counted_and_compared_by_f1(tmp_path: Path) -> None:
    rows = [
        {"id": f"{at}", "video": f"w{at}", "question": "Q?", "answer": "A.", "caption": caption}
        for at, caption in enumerate(WORLD_CAPTIONS)
    ]
    write_jsonl(tmp_path / "video_instruction" / "test" / "synthetic.qa.jsonl", rows)
    for run, texts in (("a", ["One object.", "One object."]), ("b", list(WORLD_CAPTIONS))):
        said = [{"id": f"w{at}", "prediction": text} for at, text in enumerate(texts)]
        write_jsonl(tmp_path / f"{run}.jsonl", said)
        judge_predictions(
            tmp_path / f"{run}.jsonl",
            ["synthetic_captions"],
            None,
            tmp_path / run,
            data_dir=tmp_path,
        )
    command = ["eval", "report", str(tmp_path / "a"), "--against", str(tmp_path / "b")]
    found = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "page")])
    assert found.exit_code == 0, found.output
    assert "F1 of claims" in found.stdout
    assert "right here only" not in found.stdout
    index = (tmp_path / "page" / "samples" / "index.js").read_text()
    assert '"outcomes": "cc"' in index
    assert '"others": "cc"' in index
    counts = json.loads((tmp_path / "page" / "report.json").read_text())["against"]["tasks"]
    assert counts["synthetic_captions"]["counted"] == 2
    assert counts["synthetic_captions"]["neither"] == 0
    samples = collect_samples(open_run(tmp_path / "a"))["synthetic_captions"]
    assert [sample.outcome for sample in samples] == ["counted", "counted"]
    assert not any(sample.is_of_other_texts for sample in samples)


def test_two_answers_judged_together_are_known_again(chat_server: Any, tmp_path: Path) -> None:
    """The verdict's hash is of both texts: another answer to the other question makes it stale."""
    chat_server.models = ["m"]
    chat_server.answer = lambda _: '{"explanation": "", "score": 2}'
    pair = {"Q1": "What?", "Q2": "Which?", "A": "It.", "video_name": "v_a"}
    write_json(tmp_path / "consistency_qa.json", [pair])
    task, run = "video_chatgpt_consistency", tmp_path / "run"
    said = [{"id": f"consistency_qa-1-{part}", "prediction": f"It {part}."} for part in (1, 2)]
    write_jsonl(tmp_path / "p.jsonl", said)
    judge_predictions(
        tmp_path / "p.jsonl", [task], "openai:m", run, data_dir=tmp_path, base_url=chat_server.url
    )
    samples = collect_samples(open_run(run))[task]
    assert [sample.other for sample in samples] == [("Which?", "It 2."), ("What?", "It 1.")]
    assert [sample.is_of_other_texts for sample in samples] == [False, False]
    write_json(tmp_path / "consistency_qa.json", [pair | {"Q2": "Whose?"}])
    samples = collect_samples(open_run(run))[task]
    assert [sample.is_of_other_texts for sample in samples] == [True, True]
