"""`eval report`: tables, the Hub's form, and the files that the page reads."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from sharegptvideo._io import read_json, read_jsonl, write_json, write_jsonl
from sharegptvideo._text import p_value
from sharegptvideo.cli import app
from sharegptvideo.errors import UserError
from sharegptvideo.eval import judge_predictions, run_evaluation
from sharegptvideo.eval.comparison import compare_runs
from sharegptvideo.eval.tasks import load_questions, load_task
from sharegptvideo.judges.protocol import load_protocol
from sharegptvideo.reports.run import write_report
from sharegptvideo.reports.run.record import open_run, same_judge
from sharegptvideo.reports.run.samples import CHUNK
from sharegptvideo.reports.run.tables import hub_results, latex_text, markdown_text
from tests.support.report_pages import read_page, with_judge

Row = dict[str, Any]


@pytest.fixture
def run(small_release: Any, model: Any, tmp_path: Path) -> Path:
    """Six questions on three clips: the colours right, yes right once, one answer failed."""
    model.set(fails=["Is it red?"])
    path = tmp_path / "run"
    run_evaluation(model.spec, ["msvd_qa"], "answer-match", path, data_dir=small_release.folder)
    return path


def test_every_table_has_the_figures_of_the_run(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = write_report(run, out)
    figures = read_json(run / "results.json")["tasks"]["msvd_qa"]
    report = read_json(out / "report.json")
    assert report == found
    assert {key: report["tasks"]["msvd_qa"][key] for key in figures} == figures
    assert report["tasks"]["msvd_qa"]["judge"]["name"] == "answer-match"
    (row,) = csv.DictReader((out / "report.csv").open(encoding="utf-8"))
    assert (row["n"], row["n_failed"], row["judge"]) == ("6", "3", "answer-match")
    assert float(row["accuracy"]) == figures["accuracy"]["value"] == 0.5
    assert float(row["accuracy_bound_high"]) == 0.5
    # One of two right on each clip: no spread was seen, so there is no standard error.
    assert "| msvd_qa | 6 | 3 | 3 | 0 | 50.0 | 6.5 to 93.5 |" in (out / "report.md").read_text()
    tex = (out / "report.tex").read_text()
    assert "msvd\\_qa & 6 & 3 & 100.0 & 50.0 & 6.5--93.5 & 3.00" in tex
    assert "Judge: answer-match, caption-grounded, rules v" in tex


def test_the_page_has_every_sample_with_its_frames(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_report(run, out)
    index, samples, clips = read_page(out)
    assert index["tasks"] == [["msvd_qa", 6]]
    assert index["outcomes"] == "rfrfrf"
    assert [row["id"] for row in samples] == ["a_0", "a_1", "b_0", "b_1", "c_0", "c_1"]
    first, second = samples[:2]
    assert (first["question"], first["reference"], first["prediction"]) == (
        "What colour fills it?",
        "red",
        "red",
    )
    assert first["clip"]["caption"] == "The whole picture is red from beginning to end."
    assert (first["outcome"], first["score"]) == ("right", 5.0)
    assert first["reason"]
    assert second["outcome"] == "failed"
    assert "no idea" in second["error"]
    assert "score" not in second
    assert len(clips) == 3  # once a clip, not once a question
    recorded = next(row for _, row in read_jsonl(run / "predictions.jsonl"))["frame_indices"]
    for clip, colour in zip(clips, [(255, 0, 0), (0, 255, 0), (0, 0, 255)], strict=True):
        assert clip["indices"] == recorded
        assert clip["size"] == [8, 32, 24]
        picture = Image.open(out / clip["file"])
        assert picture.size == (8 * 32, 24)
        shown = picture.getpixel((250, 12))
        assert isinstance(shown, tuple)
        assert max(abs(a - b) for a, b in zip(shown, colour, strict=True)) < 12
    page = (out / "index.html").read_text(encoding="utf-8")
    assert 'src="samples/index.js"' in page
    assert str(tmp_path) not in page


def test_a_second_run_is_held_against_it_and_another_judge_is_marked(
    run: Path, small_release: Any, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    predictions = [row for _, row in read_jsonl(run / "predictions.jsonl")]
    for row in predictions:
        row.pop("error", None)
        row |= {"status": "ok", "prediction": "It is red, no doubt."}
    write_jsonl(tmp_path / "more.jsonl", predictions[:5])
    judge_predictions(
        tmp_path / "more.jsonl", ["msvd_qa"], "answer-match", other, data_dir=small_release.folder
    )
    exact = tmp_path / "exact"
    judge_predictions(
        run / "predictions.jsonl", ["msvd_qa"], "exact", exact, data_dir=small_release.folder
    )
    found = write_report(run, tmp_path / "one", against=other)
    index, samples, _ = read_page(tmp_path / "one")
    assert index["others"][0] == "r"
    assert index["others"][2] == index["others"][4] == "w"
    assert index["others"][5] == "f"
    counts = found["against"]["tasks"]["msvd_qa"]
    assert counts["other_judge"] is False
    assert (counts["both"], counts["only_first"], counts["absent"]) == (1, 2, 0)
    assert samples[2]["other"]["prediction"] == "It is red, no doubt."
    assert "same_answer" in samples[2]["other"]
    found = write_report(run, tmp_path / "two", against=exact)
    assert found["against"]["tasks"]["msvd_qa"]["other_judge"] is True
    _, samples, _ = read_page(tmp_path / "two")
    assert samples[0]["other"]["other_judge"] is True
    assert samples[0]["other"]["same_answer"] is True
    page = (tmp_path / "two" / "index.html").read_text(encoding="utf-8")
    assert "msvd_qa: two judges. Here answer-match" in page
    assert "two judges" not in (tmp_path / "one" / "index.html").read_text(encoding="utf-8")


def test_charts_show_the_figures_and_the_paired_difference(
    run: Path, small_release: Any, tmp_path: Path
) -> None:
    """Six questions: three right here; there one of these, and one that nobody answered here."""
    rows = [row for _, row in read_jsonl(run / "predictions.jsonl")]
    for number, row in enumerate(rows):
        row["question_type"] = "colour" if number % 2 == 0 else "yes-no"
    write_jsonl(run / "predictions.jsonl", rows)
    answers = [row | {"status": "ok", "prediction": "red"} for row in rows]
    write_jsonl(tmp_path / "red.jsonl", answers)
    judge_predictions(
        tmp_path / "red.jsonl", ["msvd_qa"], "answer-match", tmp_path / "red",
        data_dir=small_release.folder,
    )  # fmt: skip
    write_report(run, tmp_path / "out", against=tmp_path / "red")
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    said = re.findall(r'<svg [^>]*aria-label="([^"]+)"', page)
    assert said[0].startswith("By task, questions answered right, %: msvd_qa 50.0")
    (difference,) = (each for each in said if each.startswith("Difference by task"))
    paired = compare_runs(tmp_path / "red", run)["tasks"]["msvd_qa"]
    assert paired["delta"] == pytest.approx(1 / 6)
    assert "run minus red, points, right of 0: this run is better" in difference
    assert difference.endswith(f": msvd_qa +16.7 (p {p_value(paired['p_value'])})")
    (kinds,) = (each for each in said if each.startswith("Difference by question type"))
    assert "colour +66.7" in kinds
    assert "yes-no −33.3" in kinds
    # Other judges: what would be drawn is no difference of the models.
    judge_predictions(
        run / "predictions.jsonl", ["msvd_qa"], "exact", tmp_path / "exact",
        data_dir=small_release.folder,
    )  # fmt: skip
    write_report(run, tmp_path / "two", against=tmp_path / "exact")
    assert "Difference by" not in (tmp_path / "two" / "index.html").read_text(encoding="utf-8")


def test_a_prompt_that_is_not_the_recorded_one_is_not_shown_as_sent(
    run: Path, tmp_path: Path
) -> None:
    def prompts(hash_of: str) -> tuple[Row, list[bool]]:
        with_judge(run, [{"reply": "Score: 5"}], prompt_hash=hash_of, protocol="caption-grounded")
        write_report(run, tmp_path / "out")
        index, samples, _ = read_page(tmp_path / "out")
        assert "judged" not in samples[1]  # failed: no judge was asked
        return index["prompts"]["msvd_qa"], ["judged" in row for row in samples]

    record = read_json(run / "run.json")
    assert record["tasks"]["msvd_qa"]["sent_as"] == "{prompt}"
    rows = [row for _, row in read_jsonl(run / "predictions.jsonl")]
    rows[0]["prompt_hash"] = "0" * 16
    write_jsonl(run / "predictions.jsonl", rows)
    asked, judged = prompts(load_protocol("caption-grounded").hash)
    assert (asked["prompt"], judged) == ("{question}", [True, False] * 3)
    _, samples, _ = read_page(tmp_path / "out")
    assert ["unsure" in row for row in samples] == [True] + [False] * 5
    # A wording of somebody's own is not in the run: nothing is shown in its place.
    asked, judged = prompts("0123456789abcdef")
    assert judged == [False] * 6
    assert asked["judge_note"].startswith("Asked by a wording that is not one of this package's")


def test_claims_and_answers_that_are_judged_together(chat_server: Any, tmp_path: Path) -> None:
    files = tmp_path / "files"
    write_jsonl(files / "VDC_1k.jsonl", [
        {"video_id": "c0", "video_name": "c0.mp4", "detailed_caption": "A dog runs."}
    ])  # fmt: skip
    write_json(files / "consistency_qa.json", [
        {"Q1": "What is he doing?", "Q2": "Which work?", "A": "He cooks.", "video_name": "a"}
    ])  # fmt: skip
    chat_server.models = ["m"]
    counted = {"claims": [{"claim": "A dog.", "supported": "yes"}],
               "reference_claims": [{"claim": "A dog.", "covered": "no"}]}  # fmt: skip
    chat_server.answer = lambda body: json.dumps(
        counted if "reference_claims" in str(body) else {"explanation": "", "score": 4}
    )
    tasks = ["video_detailed_caption", "video_chatgpt_consistency"]
    questions = [q for task in tasks for q in load_questions(load_task(task), files)]
    rows = [{"id": q.id, "prediction": f"A dog, {n}."} for n, q in enumerate(questions)]
    write_jsonl(tmp_path / "answers.jsonl", rows)
    judge_predictions(
        tmp_path / "answers.jsonl", tasks, "openai:m", tmp_path / "run", data_dir=files,
        base_url=chat_server.url,
    )  # fmt: skip
    found = write_report(tmp_path / "run", tmp_path / "out", data_dir=files)
    assert not [note for note in found["notes"] if "other texts" in note]
    asked = [body["messages"][-1]["content"] for body in chat_server.requests]
    index, samples, _ = read_page(tmp_path / "out")
    for sample, task in zip(samples, (tasks[0], tasks[1], tasks[1]), strict=True):
        around = index["prompts"][task]
        texts = {"question": sample["question"], "reference": sample["reference"],
                 "answer": sample["prediction"]}  # fmt: skip
        middle = sample["judged"]
        if not isinstance(middle, str):
            middle = json.dumps({name: texts[name] for name in middle}, indent=2)
        assert around["before"] + middle + around["after"] in asked
    assert "A dog, 2." in samples[1]["judged"]  # the other answer of its pair


def test_the_models_that_answered_are_named_and_a_mixture_is_told(
    run: Path, tmp_path: Path
) -> None:
    def reported(model: str) -> Row:
        return {"reply": "Score: 5", "judge": {"name": "openai:gpt", "answered_by": model}}

    with_judge(run, [reported("gpt-0301"), reported("gpt-0613")], prompt_hash="abc")
    found = write_report(run, tmp_path / "out")
    answered = found["tasks"]["msvd_qa"]["answered_by"]
    assert answered == {"openai:gpt": {"gpt-0301": 2, "gpt-0613": 1}}
    mixed = "msvd_qa: several models answered as openai:gpt: gpt-0301 (2), gpt-0613 (1)"
    assert mixed in found["notes"]
    assert mixed in (tmp_path / "out" / "report.md").read_text()
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "openai:gpt (gpt-0301, gpt-0613), caption-grounded, prompt v2, abc" in text
    assert mixed in text
    _, samples, _ = read_page(tmp_path / "out")
    assert (samples[0]["reply"], samples[0]["by"]) == ("Score: 5", "gpt-0301")


def test_another_model_that_answered_is_another_judge(run: Path, tmp_path: Path) -> None:
    import shutil

    other = tmp_path / "other"
    shutil.copytree(run, other)
    for path, name in ((run, "gpt-0301"), (other, "gpt-0613")):
        with_judge(path, [{"judge": {"name": "openai:gpt", "answered_by": name}}], endpoint=name)
    assert not same_judge(open_run(run), open_run(other), "msvd_qa")
    with_judge(other, [{"judge": {"name": "openai:gpt", "answered_by": "gpt-0301"}}], endpoint="x")
    assert same_judge(open_run(run), open_run(other), "msvd_qa")  # the place does not matter


def test_a_panel_is_shown_member_by_member(run: Path, tmp_path: Path) -> None:
    members = [
        {"name": "openai:a", "status": "scored", "correct": True, "score": 4.0, "reason": None,
         "reply": "fine", "judge": {"answered_by": "a-1"}, "repaired": True},
        {"name": "exact", "status": "unscored", "correct": None, "score": None,
         "reason": "not read", "reply": None, "judge": {}},
    ]  # fmt: skip
    reply = {"reply": "openai:a: fine", "judge": {"answered_by": "a-1, exact", "members": members}}
    with_judge(run, [reply])
    found = write_report(run, tmp_path / "out")
    assert found["tasks"]["msvd_qa"]["answered_by"] == {"openai:a": {"a-1": 3}}
    _, samples, _ = read_page(tmp_path / "out")
    shown = samples[0]["members"]
    assert [(one["name"], one["correct"], one["reply"]) for one in shown] == [
        ("openai:a", True, "fine"),
        ("exact", None, None),
    ]
    assert "reply" not in samples[0]  # it would repeat the members'


def test_odd_texts_stay_texts(small_release: Any, tmp_path: Path) -> None:
    odd = ["</script><script>alert(1)</script>", "half \ud83d pair", "x" * 100_000, "\u2028", ""]
    write_jsonl(
        tmp_path / "answers.jsonl",
        [{"id": f"{stem}_{n}", "prediction": odd[place]}
         for place, (stem, n) in enumerate([("a", 0), ("a", 1), ("b", 0), ("b", 1), ("c", 0)])],
    )  # fmt: skip
    run = tmp_path / "run"
    judge_predictions(
        tmp_path / "answers.jsonl", ["msvd_qa"], "exact", run, data_dir=small_release.folder
    )
    record = read_json(run / "run.json")
    record["model"]["name"] = "</script><b>m_{1}%"
    write_json(run / "run.json", record)
    write_report(run, tmp_path / "out")
    _, samples, _ = read_page(tmp_path / "out")
    assert [row.get("prediction") for row in samples] == [*odd, None]
    assert samples[5]["outcome"] == "failed"
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert page.count("<script") == 3  # two files, and what moves clips
    assert "&lt;/script&gt;" in page
    assert "\\textless{}/script\\textgreater{}\\textless{}b\\textgreater{}m\\_\\{1\\}\\%" in (
        latex_text(open_run(run))
    )


def test_clips_that_are_gone_or_changed_are_told(
    run: Path, small_release: Any, tmp_path: Path
) -> None:
    import shutil

    shutil.rmtree(small_release.clips / "a")
    (small_release.clips / "b" / "c01_0010.png").unlink()
    (small_release.clips / "c" / "c01_0001.png").write_bytes(b"no picture")
    found = write_report(run, tmp_path / "out")
    assert [note.split(":")[0] for note in found["notes"]] == [
        "1 of 3 clips without frames",
        "1 of 3 clips without frames",
        "1 of 3 clips now give other frames than the model saw",
    ]
    _, _, clips = read_page(tmp_path / "out")
    assert "file" not in clips[0]
    assert clips[1]["moved"] is True
    assert "c01_0001.png" in clips[2]["error"]


def test_pictures_are_made_once_and_anew_for_another_clip(
    run: Path, small_release: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    write_report(run, out)
    first = {path.name: path.stat().st_mtime_ns for path in (out / "frames").iterdir()}
    assert len(first) == 3
    (out / "frames" / f"{'0' * 20}.tmp").write_bytes(b"torn off")
    picture = Image.new("RGB", (32, 24), (250, 250, 0))
    picture.save(small_release.clips / "b" / "c01_0001.png")
    write_report(run, out)
    second = {path.name: path.stat().st_mtime_ns for path in (out / "frames").iterdir()}
    assert len(second) == 3
    kept = first.keys() & second.keys()
    assert len(kept) == 2
    assert all(first[name] == second[name] for name in kept)
    _, _, clips = read_page(out)
    shown = Image.open(out / clips[1]["file"]).getpixel((10, 12))
    assert isinstance(shown, tuple)
    assert max(abs(a - b) for a, b in zip(shown, (250, 250, 0), strict=True)) < 12


def test_data_that_changed_or_moved_are_told(run: Path, small_release: Any, tmp_path: Path) -> None:
    rows = small_release.folder / "video_instruction" / "test" / "msvd.qa.jsonl"
    text = rows.read_text().replace('"value": "red"', '"value": "crimson"')
    rows.write_text("".join(text.splitlines(keepends=True)[:5]))
    found = write_report(run, tmp_path / "out")
    assert found["notes"] == [
        "msvd_qa: questions that are not in the data any more: 1",
        "msvd_qa: verdicts given on other texts than the data now has: 1; is this the run's"
        " --data-dir?",
    ]
    _, samples, _ = read_page(tmp_path / "out")
    assert samples[0]["stale"] is True
    assert samples[5]["gone"] is True
    moved = tmp_path / "moved"
    small_release.folder.rename(moved)
    with pytest.raises(UserError, match=r"release: no such folder; say with --data-dir"):
        write_report(run, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert write_report(run, tmp_path / "new", data_dir=moved)["files"][-1] == "index.html"
    tables = write_report(run, tmp_path / "tables", samples=False)
    assert tables["files"] == ["report.json", "report.csv", "report.md", "report.tex"]
    assert not (tmp_path / "tables" / "index.html").exists()


def test_a_shorter_report_leaves_nothing_of_a_longer_one(tmp_path: Path) -> None:
    n = 2 * CHUNK + 1
    rows = [
        {"id": str(i), "video": f"v{i // 20}", "caption": f"Clip {i // 20}.",
         "conversations": [{"from": "human", "value": f"<video>\nWhat is {i}?"},
                           {"from": "gpt", "value": f"thing {i}"}]}
        for i in range(n)
    ]  # fmt: skip
    data = tmp_path / "data"
    write_jsonl(data / "video_instruction" / "test" / "msvd.qa.jsonl", rows)
    answers = ({"id": str(i), "prediction": f"thing {i - i % 2}"} for i in range(n))
    write_jsonl(tmp_path / "answers.jsonl", answers)
    for limit in (None, 3):
        run = tmp_path / f"run{limit}"
        judge_predictions(
            tmp_path / "answers.jsonl", ["msvd_qa"], "exact", run, data_dir=data, limit=limit
        )
        write_report(run, tmp_path / "out")
        index, samples, _ = read_page(tmp_path / "out")
        asked = limit or n
        assert len(samples) == len(index["outcomes"]) == asked
        assert [row["id"] for row in samples] == [str(i) for i in range(asked)]
        assert index["outcomes"] == ("rw" * n)[:asked]
    hub = hub_results(open_run(tmp_path / "run3"), "me/bench")
    assert hub.text == ""
    assert "first 3 questions" in hub.left_out["msvd_qa"]


def test_the_hub_reads_what_is_written_for_it(run: Path, tmp_path: Path) -> None:
    from huggingface_hub import parse_eval_result_entries

    out = tmp_path / "out"
    found = write_report(run, out, dataset_id="me/video-bench", samples=False)
    assert ".eval_results/video-bench.yaml" in found["files"]
    content = yaml.safe_load((out / ".eval_results" / "video-bench.yaml").read_text())
    (entry,) = parse_eval_result_entries(content)
    assert (entry.dataset_id, entry.task_id, entry.value) == ("me/video-bench", "msvd_qa", 50.0)
    assert entry.date == read_json(run / "run.json")["started"]
    assert entry.notes is not None
    for part in ("accuracy in %", "6 questions on 3 videos", "coverage 100.0 %", "answer-match"):
        assert part in entry.notes


def test_the_hub_gets_no_figure_that_would_not_compare(run: Path) -> None:
    results = read_json(run / "results.json")
    results["tasks"]["msvd_qa"]["coverage"] = 0.98
    write_json(run / "results.json", results)
    assert "coverage 98.0 %" in hub_results(open_run(run), "me/bench").left_out["msvd_qa"]
    for name in ("bench", "me/", "../x", "a/b/c", "me/.."):
        with pytest.raises(UserError, match="OWNER/NAME"):
            hub_results(open_run(run), name)


def _none(run: Path) -> tuple[Path, Row]:
    return run.parent, {}


def _unfinished(run: Path) -> tuple[Path, Row]:
    (run / "results.json").unlink()
    return run, {}


def _half(run: Path) -> tuple[Path, Row]:
    (run / "judgements.jsonl").unlink()
    return run, {}


def _itself(run: Path) -> tuple[Path, Row]:
    return run, {"out": run}


def _own_task(run: Path) -> tuple[Path, Row]:
    for name in ("run.json", "results.json"):
        content = read_json(run / name)
        content["tasks"] = {"my_task": content["tasks"]["msvd_qa"]}
        write_json(run / name, content)
    return run, {}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_none, "no run folder"),
        (_unfinished, "finish it"),
        (_half, "has no judgements.jsonl"),
        (_itself, "take another --out"),
        (_own_task, "--task-path"),
    ],
)
def test_what_cannot_be_reported_is_said_in_one_line(
    run: Path, tmp_path: Path, spoil: Callable[[Path], tuple[Path, Row]], message: str
) -> None:
    path, options = spoil(run)
    with pytest.raises(UserError, match=message):
        write_report(path, **{"out": tmp_path / "out"} | options)
    assert not (tmp_path / "out").exists()


def test_the_command_prints_figures_and_names_its_files(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = CliRunner().invoke(app, ["eval", "report", str(run), "--out", str(out), "--json"])
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout) == read_json(out / "report.json")
    assert f"written: {out / 'index.html'}" in found.stderr
    found = CliRunner().invoke(
        app, ["eval", "report", str(run), "--out", str(out), "--no-samples", "--against", str(run)]
    )
    assert found.exit_code == 0, found.output
    assert "6.5 to 93.5" in found.stdout
    assert "ANOTHER JUDGE" not in found.stdout
    found = CliRunner().invoke(app, ["eval", "report", str(tmp_path), "--out", str(out)])
    assert found.exit_code == 2


def test_markdown_says_by_whom_each_task_was_judged(run: Path) -> None:
    text = markdown_text(open_run(run))
    assert "- `msvd_qa`: answer-match, caption-grounded, rules v" in text


def test_a_part_of_a_task_is_marked_everywhere(
    small_release: Any, model: Any, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    for limit in (2, 50):
        run_evaluation(
            model.spec, ["msvd_qa"], "exact", run, data_dir=small_release.folder, limit=limit
        )
        made = write_report(run, tmp_path / "out")
        part = "msvd_qa: a part of the task: the first 2 questions (--limit); not to be ranked"
        files = [(tmp_path / "out" / name).read_text() for name in ("index.html", "report.md")]
        assert all((part in text) == (limit == 2) for text in (*files, "\n".join(made["notes"])))
        assert ("a part of the task" in (tmp_path / "out/report.tex").read_text()) == (limit == 2)
        assert bool(made["tasks"]["msvd_qa"]["part"]) == (limit == 2)


def test_another_split_and_question_types(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for split, kinds in (("val", "012"), ("test", "3")):
        questions = [
            {"question_id": f"{split}{k}", "video_name": f"clip{k}", "question": "who is it"}
            for k in kinds
        ]
        answers = [
            {"question_id": f"{split}{k}", "answer": "man", "type": int(k) % 2} for k in kinds
        ]
        write_json(data / f"{split}_q.json", questions)
        write_json(data / f"{split}_a.json", answers)
    runs = []
    for name, prediction in (("one", "man"), ("two", "dog")):
        rows = [{"id": f"val{k}", "prediction": prediction} for k in "012"]
        write_jsonl(tmp_path / f"{name}.jsonl", rows)
        words = ["eval", "judge", "--predictions", str(tmp_path / f"{name}.jsonl")]
        words += ["--task", "activitynet_qa_official", "--data-dir", str(data)]
        words += ["--split", "validation", "--judge", "exact", "--out", str(tmp_path / name)]
        shown = CliRunner().invoke(app, words)
        assert shown.exit_code == 0, shown.output
        runs.append(tmp_path / name)
    assert read_json(runs[0] / "run.json")["tasks"]["activitynet_qa_official"]["split"] == (
        "validation"
    )
    figures = read_json(runs[0] / "results.json")["tasks"]["activitynet_qa_official"]
    assert {kind: one["n"] for kind, one in figures["by_question_type"].items()} == {
        "motion": 2,
        "spatial": 1,
    }
    write_report(runs[0], tmp_path / "out")
    page = (tmp_path / "out/index.html").read_text(encoding="utf-8")
    assert "Accuracy by question type" in page
    index, _, _ = read_page(tmp_path / "out")
    assert (index["types"], index["kinds"]) == (["motion", "spatial"], [0, 1, 0])
    compared = CliRunner().invoke(app, ["eval", "compare", *map(str, runs), "--json"])
    task = json.loads(compared.stdout)["tasks"]["activitynet_qa_official"]
    assert {kind: one["delta"] for kind, one in task["by_question_type"].items()} == {
        "motion": -1.0,
        "spatial": -1.0,
    }
    wrong = CliRunner().invoke(app, [*words[:-4], "exact", "--split", "tset", "--out", "x"])
    assert wrong.exit_code == 2
