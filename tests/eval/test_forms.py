"""Tasks of yes and no and of multiple choice: their files, their figures, and runs end to end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sharegptvideo._io import read_json, read_jsonl, write_json, write_jsonl
from sharegptvideo.cli import app
from sharegptvideo.errors import UserError
from sharegptvideo.eval import compare_runs, judge_predictions, list_tasks, run_evaluation
from sharegptvideo.eval.score import pair_videos, score_answers
from sharegptvideo.eval.tasks import chosen_questions, load_questions, load_task, named_tasks
from sharegptvideo.judges import open_judge
from sharegptvideo.models import Question
from tests.support import benchmark_files as files

HASHES = {
    "activitynet_qa": "8cc4ed87a2110144",
    "activitynet_qa_official": "7ae317a18566e5d2",
    "msrvtt_qa": "e806c80aeb3a2029",
    "msrvtt_qa_official": "f29e3c605a6c5ad4",
    "msvd_qa": "daa35903d8e6771e",
    "msvd_qa_official": "a82cfd29321ab2e5",
    "ssv2_qa": "3fea0030aeeaab60",
    "synthetic_ood_qa": "b4ff2b4f87dca2f3",
    "synthetic_qa": "fa9845b883e620ab",
    "tgif_qa": "cd35c703b9af138e",
    "tgif_qa_official": "79783dfcb4829605",
    "vidal_qa": "39f8dc68cf6abe17",
    "webvid_qa": "cb4040cc93b8c040",
}


def test_keys_that_tasks_got_later_change_no_hash() -> None:
    """Runs of earlier versions stay comparable: `eval compare` refuses another hash."""
    assert {name: load_task(name).task_hash for name in HASHES} == HASHES
    by_letter = load_task("nextqa")
    assert by_letter.task_hash != load_task("nextqa_likelihood").task_hash
    assert by_letter.model_copy(update={"groups": (), "data": ""}).task_hash == by_letter.task_hash


def test_a_group_is_all_of_its_tasks() -> None:
    assert named_tasks(["nextqa", "hallucination", "nextqa"]) == [
        "nextqa", "eventhallusion", "videohallucer",
    ]  # fmt: skip
    assert named_tasks(["official"]) == sorted(n for n in HASHES if n.endswith("_official"))
    with pytest.raises(UserError, match="unknown task 'hallucinations'; did you mean hallucin"):
        named_tasks(["hallucinations"])
    for task in list_tasks():
        assert task.data or task.config  # where its data is to be had


def _question(key: str, answer: str, **more: Any) -> Question:
    return Question(key, "t", more.pop("video", key), "q", answer, **more)


def _figures(form: str, asked: list[tuple[Question, str | None]]) -> dict[str, Any]:
    """Score answers by the rules of the form; None: a failed answer."""
    from sharegptvideo.eval.judge import item_of
    from sharegptvideo.judges import verdict_row

    judge = open_judge(form)
    predictions: dict[str, Any] = {}
    verdicts: dict[str, Any] = {}
    for question, text in asked:
        predictions[question.key] = {"status": "failed", "error": "x"}
        if text is not None:
            predictions[question.key] = {"status": "ok", "prediction": text}
            item = item_of(question, text, options=question.options)
            (verdict,) = judge.judge([item])
            verdicts[question.key] = verdict_row(item, verdict)
    return score_answers([q for q, _ in asked], predictions, verdicts, judge, form)


def test_a_pair_counts_when_both_are_right() -> None:
    """By hand, of five pairs: both right; one wrong; right and unread; wrong and unread; failed."""
    answers: list[tuple[str | None, str | None]] = [
        ("Yes.", "No."), ("Yes.", "Yes."), ("Yes.", "Hm."), ("No.", "Hm."), (None, "No."),
    ]  # fmt: skip
    asked = []
    for at, pair in enumerate(answers):
        for right, text in zip(("yes", "no"), pair, strict=True):
            question = _question(
                f"{at}{right}", right, video=f"v{at}", pair=str(at), question_type="k"
            )
            asked.append((question, text))
    figures = _figures("yes-no", asked)
    assert (figures["headline"], figures["chance"]) == ("pair_accuracy", 0.25)
    # Known: right, wrong, wrong (the unread half cannot save it), wrong; the third is not known.
    assert figures["pair_accuracy"]["value"] == 1 / 4
    assert (figures["pair_accuracy"]["n"], figures["n_pairs"]) == (4, 5)
    assert figures["pair_bounds"] == [1 / 5, 2 / 5]
    # Alone: right 5 (yes, no, yes, yes, no), wrong 3 (yes for no, no for yes, failed), 2 unread.
    assert (figures["accuracy"]["value"], figures["n_unscored"]) == (5 / 8, 2)
    assert figures["unscored"] == {"the answer says neither yes nor no": 2}
    # Of the 7 answers read: yes, no, yes, yes, yes, no, no.
    assert (figures["yes_rate"]["value"], figures["right_yes_rate"]) == (4 / 7, 1 / 2)
    assert figures["accuracy_yes"]["value"] == 3 / 5  # the failed one is wrong
    assert figures["accuracy_no"]["value"] == 2 / 3
    assert figures["by_question_type"]["k"]["pair_accuracy"] == figures["pair_accuracy"]
    assert figures["type_mean"] == 1 / 4


def test_who_always_says_yes_gets_no_pair() -> None:
    asked = [
        (_question(f"{at}{right}", right, pair=str(at), video=str(at)), "Yes.")
        for at in range(4)
        for right in ("yes", "no")
    ]
    figures = _figures("yes-no", asked)
    assert (figures["pair_accuracy"]["value"], figures["accuracy"]["value"]) == (0.0, 0.5)
    assert figures["yes_rate"]["value"] == 1.0


def test_pairs_that_share_a_video_are_one_cluster() -> None:
    clusters = pair_videos([("a", "b"), ("c", "c"), ("b", "d"), ("e", "d")])
    assert len(set(clusters)) == 2
    assert clusters[0] == clusters[2] == clusters[3] != clusters[1]
    asked = [
        (_question(f"{at}{n}", "yes", pair=str(at), video=video), "Yes.")
        for at, videos in enumerate(["ab", "bc", "dd"])
        for n, video in enumerate(videos)
    ]
    asked[0] = (asked[0][0], "No.")
    figures = _figures("yes-no", asked)
    # Pairs wrong, right, right; the first two are about one video over `b`. Their cluster errs by
    # (0 - 2/3) + (1 - 2/3) = -1/3, the third by 1/3: se² = 2 · (1/9 + 1/9) / 9.
    assert figures["pair_accuracy"]["se"] == pytest.approx((4 / 81) ** 0.5)


def test_the_mean_of_the_types_weighs_them_alike() -> None:
    """Of three questions of one type one is right, of the other type's one all: (1/3 + 1) / 2."""
    kinds = [("a", "Yes."), ("a", "No."), ("a", "No."), ("b", "Yes.")]
    asked = [
        (_question(str(at), "yes", question_type=kind), text)
        for at, (kind, text) in enumerate(kinds)
    ]
    figures = _figures("yes-no", asked)
    assert (figures["accuracy"]["value"], figures["type_mean"]) == (1 / 2, pytest.approx(2 / 3))


def test_chance_is_the_mean_of_one_in_so_many() -> None:
    options = ("red", "blue"), ("red", "blue", "green", "grey")
    asked = [(_question(str(at), "red", options=each), "A") for at, each in enumerate(options)]
    figures = _figures("choice", asked)
    assert (figures["headline"], figures["chance"]) == ("accuracy", (1 / 2 + 1 / 4) / 2)
    assert figures["accuracy"]["value"] == 1.0


def test_options_are_turned_by_the_id() -> None:
    options = ("red", "blue", "green", "grey")
    shown = [_question(str(at), "red", options=options).shown_options for at in range(4000)]
    places = [each.index("red") for each in shown]
    # A quarter each, give or take three standard errors: 3 · sqrt(4000 · 1/4 · 3/4) = 82.
    assert all(abs(places.count(place) - 1000) < 82 for place in range(4))
    assert set(shown) == {options[n:] + options[:n] for n in range(4)}
    assert shown[7] == _question("7", "red", options=options, video="other").shown_options
    names_others = ("red", "blue", "None of the above")
    for at in range(9):
        assert _question(str(at), "blue", options=names_others).shown_options == names_others


def test_a_limit_leaves_pairs_whole() -> None:
    pairs = [_question(f"{at}{half}", "yes", pair=str(at)) for at in range(5) for half in "ab"]
    assert [q.id for q in chosen_questions(pairs, 5, None)] == ["0a", "0b", "1a", "1b"]
    assert [q.id for q in chosen_questions(pairs, 1, None)] == ["0a", "0b"]
    drawn = chosen_questions(pairs, 4, 3)
    assert len(drawn) == 4
    assert len({q.pair for q in drawn}) == 2
    alone = [_question(f"{at:02}", "yes") for at in range(30)]
    import random

    ids = sorted(random.Random(7).sample(range(30), 4))  # as earlier versions drew them
    assert [q.id for q in chosen_questions(alone, 4, 7)] == [f"{at:02}" for at in ids]


_MODEL = '''
def answer(frames, question):
    """Sees red and blue; says yes or no, or the letter of the colour's line."""
    colour = "red" if frames[0][0, 0, 0] > 128 else "blue"
    if "Answer with yes or no" in question:
        return "Yes." if colour in question else "No."
    return next(line[0] for line in question.split("\\n") if line.endswith(f". {colour}"))

def always_a(frames, question):
    return "A"
'''

MAKERS: dict[str, Callable[[Path], None]] = {
    "videohallucer": files.videohallucer,
    "eventhallusion": files.eventhallusion,
    "tempcompass": files.tempcompass,
    "tempcompass_yes_no": files.tempcompass,
    "nextqa": files.nextqa,
    "mvbench": files.mvbench,
    "videomme": files.videomme,
    "egoschema": files.egoschema,
}
# Questions, videos, headline, chance; a model that sees the colour has all of them right.
EXPECTED = {
    "videohallucer": (12, 2, "pair_accuracy", 0.25),
    "eventhallusion": (4, 3, "accuracy", 0.5),
    "tempcompass": (2, 2, "accuracy", 1 / 3),
    "tempcompass_yes_no": (2, 2, "accuracy", 0.5),
    "nextqa": (4, 2, "accuracy", 0.2),
    "videomme": (2, 1, "accuracy", 0.25),
    "egoschema": (2, 2, "accuracy", 0.2),
}


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "colours_of_forms.py").write_text(_MODEL)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "python:colours_of_forms:answer"


@pytest.mark.parametrize("name", EXPECTED)
def test_a_task_runs_on_a_file_of_its_format(name: str, model: str, tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    MAKERS[name](data)
    figures = run_evaluation(model, [name], None, out, data_dir=data)["tasks"][name]
    n, videos, headline, chance = EXPECTED[name]
    assert (figures["n"], figures["clusters"], figures["n_scored"]) == (n, videos, n)
    assert (figures["headline"], figures["chance"]) == (headline, pytest.approx(chance))
    assert figures[headline]["value"] == 1.0
    about = read_json(out / "run.json")["tasks"][name]
    assert about["judge"]["name"] == load_task(name).own_judge
    kept = {row["id"]: row for _, row in read_jsonl(out / "predictions.jsonl")}
    for question in load_questions(load_task(name), data):
        assert kept[question.id].get("options", []) == list(question.shown_options)
        assert kept[question.id].get("pair") == question.pair


def test_a_letter_in_a_predictions_file_is_of_the_options_that_its_line_lists(
    model: str, tmp_path: Path
) -> None:
    """Where it lists none, the letter is of the data's own order: no program turns as we do."""
    data, out = tmp_path / "data", tmp_path / "out"
    files.nextqa(data)
    run_evaluation(model, ["nextqa"], None, out, data_dir=data)
    again = judge_predictions(
        out / "predictions.jsonl", ["nextqa"], None, tmp_path / "again", data_dir=data
    )
    assert again["tasks"]["nextqa"]["accuracy"]["value"] == 1.0
    asked = load_questions(load_task("nextqa"), data)
    elsewhere = tmp_path / "elsewhere.jsonl"  # red is A, blue is B in the file
    rows = [{"id": q.id, "prediction": "A" if q.answer == "red" else "B"} for q in asked]
    write_jsonl(elsewhere, rows)
    there = judge_predictions(elsewhere, ["nextqa"], None, tmp_path / "there", data_dir=data)
    assert there["tasks"]["nextqa"]["accuracy"]["value"] == 1.0
    write_jsonl(elsewhere, [row | {"options": ["red", "pink"]} for row in rows])
    other = judge_predictions(elsewhere, ["nextqa"], None, tmp_path / "other", data_dir=data)
    assert other["tasks"]["nextqa"]["failures"] == {"its options are not those of the question": 4}


def test_a_whole_video_is_refused_where_a_question_is_on_a_part(model: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    files.mvbench(data)
    ran = run_evaluation(model, ["mvbench"], None, tmp_path / "out", data_dir=data)
    figures = ran["tasks"]["mvbench"]
    assert figures["n"] == 20
    # The clips of 12 lists are there (4, 5 and 3 of one folder each), and all are seen rightly.
    assert (figures["n_failed"], len(figures["missing_clips"])) == (8, 8)
    assert figures["accuracy"]["value"] == 12 / 20
    entry = read_json(data / "json" / "action_sequence.json")
    entry[0]["end"] = 2.0
    entry[0]["start"] = 2.0
    write_json(data / "json" / "action_sequence.json", entry)
    long = data / "video" / "star" / "Charades_v1_480" / "video_1.mp4"
    long.unlink()
    files.encode_clip(long, files.BLUE, seconds=3)
    with pytest.raises(UserError, match=r"3\.0 s long, and a question is on 2 to 2 s of it"):
        run_evaluation(model, ["mvbench"], None, tmp_path / "long", data_dir=data)
    # The same list, and the clip cut, as the set's later archive has it.
    files.encode_clip(data / "video" / "star" / "Charades_segment" / "video_1.mp4", files.BLUE)
    ran = run_evaluation(model, ["mvbench"], None, tmp_path / "cut", data_dir=data)
    assert ran["tasks"]["mvbench"]["accuracy"]["value"] == 12 / 20


def test_options_by_likelihood(tiny: Path, model: str, tmp_path: Path) -> None:
    """The likeliest option is the answer, and its scores are kept; others than hf: are refused."""
    data, out = tmp_path / "data", tmp_path / "out"
    files.egoschema(data)
    ran = run_evaluation(f"hf:{tiny}", ["egoschema_likelihood"], None, out, data_dir=data)
    figures = ran["tasks"]["egoschema_likelihood"]
    assert (figures["n_scored"], figures["chance"]) == (2, 0.2)
    rights = 0
    for _, row in read_jsonl(out / "predictions.jsonl"):
        scores = row["option_scores"]
        assert row["prediction"] == row["options"][scores.index(max(scores))]
        rights += row["prediction"] == {"0-u": "red", "2-u": "blue"}[row["id"]]
    assert figures["accuracy"]["value"] == rights / 2
    for spec in (model, "openai:x"):
        with pytest.raises(UserError, match=r"egoschema_likelihood: model .* gives no likelihoods"):
            run_evaluation(
                spec, ["egoschema_likelihood"], None, tmp_path / "no", data_dir=data,
                base_url="http://127.0.0.1:9/v1",
            )  # fmt: skip
    with pytest.raises(UserError, match="egoschema_likelihood: the likeliest option is"):
        run_evaluation(
            f"hf:{tiny}", ["egoschema_likelihood"], None, tmp_path / "no", data_dir=data,
            max_new_tokens=4,
        )  # fmt: skip
    again = tmp_path / "again"
    judge_predictions(
        out / "predictions.jsonl", ["egoschema_likelihood"], None, again, data_dir=data
    )


def test_a_folder_takes_tasks_of_other_forms_each_with_its_own_rules(
    model: str, tmp_path: Path
) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    files.eventhallusion(data)
    files.nextqa(data)
    first = run_evaluation(model, ["eventhallusion"], None, out, data_dir=data)
    both = run_evaluation(model, ["nextqa"], None, out, data_dir=data)
    assert both["tasks"].keys() == {"eventhallusion", "nextqa"}
    assert both["tasks"]["eventhallusion"] == first["tasks"]["eventhallusion"]
    assert both["judge"] == "yes-no, choice"
    again = run_evaluation(model, ["eventhallusion"], None, out, data_dir=data)
    assert again["judge"] == "yes-no, choice"


def test_through_the_command_line(model: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    files.videohallucer(data)
    files.eventhallusion(data)
    files.nextqa(data)
    out = str(tmp_path / "out")
    arguments = ["--task", "hallucination,nextqa", "--data-dir", str(data), "--out", out]
    done = CliRunner().invoke(app, ["eval", "run", "--model", model, *arguments])
    assert done.exit_code == 0, done.output
    shown = " ".join(done.output.split())
    assert "pairs right (chance 25.0 %)" in shown
    assert "accuracy (chance 20.0 %)" in shown
    assert "says yes in 50.0 % of its answers, right would be 50.0 %" in shown
    assert "judged by yes-no, choice" in shown
    listed = CliRunner().invoke(app, ["eval", "tasks"])
    assert "--task hallucination: eventhallusion, videohallucer" in listed.output


def test_two_runs_are_compared_and_reported_by_their_main_figures(
    model: str, tmp_path: Path
) -> None:
    """Six pairs: a run that says neither, one that sees colours, a file with one pair right."""
    data, runs = tmp_path / "data", [tmp_path / "first", tmp_path / "second"]
    files.videohallucer(data)
    files.nextqa(data)
    for spec, out in ((model.replace(":answer", ":always_a"), runs[0]), (model, runs[1])):
        run_evaluation(spec, ["videohallucer", "nextqa"], None, out, data_dir=data)
    compared = compare_runs(*runs)["tasks"]
    pairs = compared["videohallucer"]
    # `A` is neither yes nor no: no pair of the first run is known, so none is compared.
    assert (pairs["headline"], pairs["n"], pairs["n_unscored"]) == ("pair_accuracy", 0, 6)
    assert compared["nextqa"]["headline"] == "accuracy"
    kept = {row["id"]: row for _, row in read_jsonl(runs[0] / "predictions.jsonl")}
    options = [kept[q.id]["options"] for q in load_questions(load_task("nextqa"), data)]
    first = [q.answer == each[0] for q, each in zip(
        load_questions(load_task("nextqa"), data), options, strict=True)]  # fmt: skip
    assert compared["nextqa"]["delta"] == 1 - sum(first) / 4
    no = tmp_path / "no.jsonl"
    asked = load_questions(load_task("videohallucer"), data)
    says = {q.id: "No." for q in asked} | {"object_relation_001_basic": "Yes."}
    write_jsonl(no, [{"id": key, "prediction": text} for key, text in says.items()])
    judge_predictions(no, ["videohallucer"], None, tmp_path / "no", data_dir=data)
    pairs = compare_runs(tmp_path / "no", runs[1])["tasks"]["videohallucer"]
    assert (pairs["n"], pairs["first_accuracy"], pairs["delta"]) == (6, 1 / 6, 5 / 6)
    # object_relation has two of the six pairs, one of which is right.
    assert pairs["by_question_type"]["object_relation"]["first_accuracy"] == 1 / 2
    call = CliRunner().invoke
    shown = call(app, ["eval", "compare", str(tmp_path / "no"), str(runs[1])]).output
    assert "videohallucer (pairs right)" in " ".join(shown.split())
    report = tmp_path / "report"
    done = call(
        app, ["eval", "report", str(runs[1]), "--out", str(report), "--against", str(runs[0])]
    )
    assert done.exit_code == 0, done.output
    table = (report / "report.md").read_text()
    assert "| main figure | value | 95 % interval | bounds % |" in table
    assert "| pairs right (chance 25.0 %) | 100.0 % |" in table
    assert "| accuracy (chance 20.0 %) | 100.0 % |" in table
    # On the red clip 3 of 5 answers are yes, on the blue one 3 of 7: se² = 2 · (1/4 + 1/4) / 12².
    assert "| videohallucer | 50.0 ± 8.3 | 50.0 | 100.0 | 100.0 | 100.0 |" in table
    assert "accuracy %" not in table.split("says yes")[0]
    page = (report / "index.html").read_text()
    assert "pairs right (chance 25.0 %)" in page
    assert "A. " in "".join(file.read_text() for file in (report / "samples").glob("0*.js"))


@pytest.mark.parametrize(
    ("task", "judge", "message"),
    [
        ("nextqa", "answer-match", "does not read answers of form choice; leave --judge out"),
        ("videohallucer", "panel:yes-no,exact,exact", "judge exact does not read"),
        ("msvd_qa", "choice", "does not read answers of form open"),
    ],
)
def test_rules_of_another_form_are_refused(
    model: str, tmp_path: Path, task: str, judge: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run_evaluation(model, [task], judge, tmp_path / "out", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("name", "file", "change", "message"),
    [
        (
            "videohallucer",
            "temporal/temporal.json",
            None,
            r"temporal\.json is not in .*all of its 5",
        ),
        (
            "videohallucer",
            "temporal/temporal.json",
            [{"basic": 1}],
            "entry 1, basic: a number where",
        ),
        ("videohallucer", "temporal/temporal.json", {}, "a list of questions is needed"),
        ("tempcompass", "questions/multi-choice.json", [], "a list where an object belongs"),
        (
            "tempcompass",
            "questions/multi-choice.json",
            {"1": {"action": [{"question": "q\nA. x\nB. y", "answer": "A. z"}]}},
            "1, action, question 1: its answer 'z' is none of its options",
        ),
        ("egoschema", "subset_answers.json", {"0-u": 9}, "entry 1: its answer is '9', no number"),
        ("egoschema", "subset_answers.json", {"9-u": 1}, r"1 answers without a question .*9-u"),
        ("egoschema", "subset_answers.json", None, "its answers, subset_answers.json, are not"),
        ("eventhallusion", "questions/entire_questions.json", [{"id": "x"}], "null where a list"),
    ],
)
def test_files_that_cannot_be_read(
    tmp_path: Path, name: str, file: str, change: object, message: str
) -> None:
    MAKERS[name](tmp_path)
    (tmp_path / file).unlink()
    if change is not None:
        write_json(tmp_path / file, change)
    with pytest.raises(UserError, match=message):
        load_questions(load_task(name), tmp_path)


def test_data_that_is_not_there_says_where_it_is_to_be_had(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"questions\.json is neither .*github\.com/egoschema"):
        load_questions(load_task("egoschema"), tmp_path)
    with pytest.raises(UserError, match="its questions are files; leave --split out"):
        load_task("egoschema").of_split("validation")
