"""The runner on a small release: what is asked, kept, retried, refused and counted."""

from __future__ import annotations

import errno
import fcntl
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo._io import read_jsonl, write_jsonl
from sharegptvideo.errors import UserError
from sharegptvideo.eval import judge_predictions, run_evaluation
from sharegptvideo.judges import Judge, JudgeItem, Verdict
from sharegptvideo.models import Answer, AnswerSettings, Model, Request, SamplingParams
from sharegptvideo.models.base import short_hash


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [row for _, row in read_jsonl(path)]


class StrictJudge(Judge):
    """Right means equal; keeps what it was shown; refuses what it is set to refuse."""

    name = "strict"

    def __init__(self, *, silent_on: Sequence[str] = (), interrupt_at: int | None = None) -> None:
        self.seen: list[JudgeItem] = []
        self.silent_on = list(silent_on)
        self.interrupt_at = interrupt_at

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "kind": "test", "endpoint": id(self)}

    def check(self) -> None:
        pass

    def judge(self, items: Sequence[JudgeItem]) -> Iterator[Verdict]:
        # Last first: the order of verdicts is the judge's own affair.
        for item in reversed(items):
            if len(self.seen) + 1 == self.interrupt_at:
                raise KeyboardInterrupt
            self.seen.append(item)
            if item.id in self.silent_on:
                yield Verdict(item.id, "unscored", None, None, "no reply", None)
                continue
            right = item.prediction == item.reference
            yield Verdict(item.id, "scored", right, 5.0 if right else 1.0, None, "word", {}, 7)


def run(
    model: Any, release: Any, out: Path, judge: Any = "exact", **options: Any
) -> dict[str, Any]:
    """One task's figures."""
    options.setdefault("media", release.folder)
    results = run_evaluation(
        model.spec, ["msvd_qa"], judge, out, data_dir=release.folder, **options
    )
    return results["tasks"]["msvd_qa"]


def test_every_question_is_answered_judged_and_counted(
    model: Any, small_release: Any, tmp_path: Path
) -> None:
    # Colours 3/3; "Is it red?" is answered yes thrice and true once: 4 of 6.
    judge = StrictJudge()
    figures = run(model, small_release, tmp_path / "run", judge)
    assert (figures["n"], figures["n_predicted"], figures["n_scored"]) == (6, 6, 6)
    assert figures["accuracy"]["value"] == pytest.approx(4 / 6)
    assert figures["clusters"] == 3
    assert figures["missing_clips"] == []
    assert all(call.startswith("8 ") for call in model.calls)
    predictions = rows_of(tmp_path / "run" / "predictions.jsonl")
    assert set(predictions[0]) == {
        "id", "task", "video", "question", "prediction", "status", "frame_indices", "prompt_hash",
    }  # fmt: skip
    assert predictions[0]["frame_indices"] == [0, 1, 2, 3, 5, 6, 7, 9]  # floor(linspace(0, 9, 8))
    assert predictions[0]["prompt_hash"] == short_hash("What colour fills it?")
    judgements = {row["id"]: row for row in rows_of(tmp_path / "run" / "judgements.jsonl")}
    assert judgements["b_1"]["correct"] is False
    assert judgements["a_1"]["tokens"] == 7
    shown = {item.id: item for item in judge.seen}
    assert shown["c_0"].reference == "blue"
    assert shown["c_0"].caption == "The whole picture is blue from beginning to end."


def test_run_json_says_what_was_run(model: Any, small_release: Any, tmp_path: Path) -> None:
    run(model, small_release, tmp_path / "run", limit=2, settings=AnswerSettings(frames=5))
    about = json.loads((tmp_path / "run" / "run.json").read_text())
    assert about["model"]["spec"] == model.spec
    assert len(about["model"]["weights_hash"]) == 64
    task = about["tasks"]["msvd_qa"]
    assert task["protocol"] == "caption-grounded"
    assert (task["frames"], task["max_new_tokens"]) == (5, 1024)
    assert task["settings_changed"] == {"frames": [8, 5]}
    assert all(call.startswith("5 ") for call in model.calls)
    assert task["judge"]["name"] == about["judge"] == "exact"
    assert about["data"]["limit"] == 2
    assert {"sharegptvideo", "numpy"} <= about["packages"].keys()


def test_a_second_run_asks_and_pays_nothing(model: Any, small_release: Any, tmp_path: Path) -> None:
    first = run(model, small_release, tmp_path / "run", StrictJudge())
    files = {p.name: p.read_bytes() for p in (tmp_path / "run").glob("*.jsonl")}
    judge = StrictJudge()
    assert run(model, small_release, tmp_path / "run", judge) == first
    assert len(model.calls) == 6
    assert judge.seen == []
    assert {p.name: p.read_bytes() for p in (tmp_path / "run").glob("*.jsonl")} == files


@pytest.mark.parametrize("at", [1, 3, 6])
def test_an_interrupted_run_goes_on(
    model: Any, small_release: Any, tmp_path: Path, at: int
) -> None:
    model.set(interrupt_at=at)
    with pytest.raises(KeyboardInterrupt):
        run(model, small_release, tmp_path / "run", batch_size=1)
    assert not (tmp_path / "run" / "results.json").exists()
    figures = run(model, small_release, tmp_path / "run", batch_size=1)
    assert len(model.calls) == 7  # the interrupted question twice, no other
    assert len(rows_of(tmp_path / "run" / "predictions.jsonl")) == 6
    assert figures["accuracy"]["value"] == pytest.approx(4 / 6)


def test_interrupted_judging_pays_for_no_verdict_twice(
    model: Any, small_release: Any, tmp_path: Path
) -> None:
    judge = StrictJudge(interrupt_at=4)
    with pytest.raises(KeyboardInterrupt):
        run(model, small_release, tmp_path / "run", judge)
    later = StrictJudge()
    figures = run(model, small_release, tmp_path / "run", later)
    assert sorted(i.id for i in [*judge.seen, *later.seen]) == [
        "a_0", "a_1", "b_0", "b_1", "c_0", "c_1",
    ]  # fmt: skip
    assert figures["n_scored"] == 6


def test_a_corrupt_clip_fails_with_its_cause_and_counts_as_wrong(
    model: Any, small_release: Any, tmp_path: Path
) -> None:
    for frame in (small_release.clips / "b").iterdir():
        frame.unlink()
    (small_release.clips / "b").rmdir()
    (small_release.clips / "b.mp4").write_text("this is no video")
    judge = StrictJudge()
    figures = run(model, small_release, tmp_path / "run", judge)
    assert (figures["n"], figures["n_failed"], figures["n_scored"]) == (6, 2, 4)
    assert figures["accuracy"]["value"] == pytest.approx(3 / 6)  # of all six
    assert figures["coverage"] == 1.0
    assert {item.video for item in judge.seen} == {"test/msvd/a", "test/msvd/c"}
    failed = [r for r in rows_of(tmp_path / "run" / "predictions.jsonl") if r["status"] == "failed"]
    assert [row["prediction"] for row in failed] == [None, None]
    assert all("b.mp4" in row["error"] for row in failed)
    assert figures["missing_clips"] == []


def test_a_missing_clip_is_listed_and_asked_about_when_it_is_there(
    model: Any, small_release: Any, tmp_path: Path
) -> None:
    hidden = small_release.folder.parent / "hidden"
    (small_release.clips / "c").rename(hidden)
    figures = run(model, small_release, tmp_path / "run")
    assert figures["missing_clips"] == ["test/msvd/c"]
    assert (figures["n"], figures["n_failed"]) == (6, 2)
    hidden.rename(small_release.clips / "c")
    figures = run(model, small_release, tmp_path / "run")
    assert figures["missing_clips"] == []
    assert figures["n_failed"] == 0
    assert len(model.calls) == 6  # four at first, two now


def test_a_failing_answer_is_tried_again(model: Any, small_release: Any, tmp_path: Path) -> None:
    model.set(fails=["Is it red?"])
    figures = run(model, small_release, tmp_path / "run")
    assert figures["failures"] == {"RuntimeError: no idea": 3}
    assert figures["accuracy"]["value"] == pytest.approx(3 / 6)
    model.set()
    figures = run(model, small_release, tmp_path / "run")
    assert figures["n_failed"] == 0
    assert len(model.calls) == 9


def test_an_unscored_verdict_lowers_coverage_and_is_asked_for_again(
    model: Any, small_release: Any, tmp_path: Path
) -> None:
    figures = run(model, small_release, tmp_path / "run", StrictJudge(silent_on=["a_0", "b_1"]))
    assert figures["coverage"] == pytest.approx(4 / 6)
    assert figures["unscored"] == {"no reply": 2}
    assert figures["accuracy"]["value"] == pytest.approx(3 / 4)
    assert figures["accuracy_bounds"] == pytest.approx([3 / 6, 5 / 6])
    judge = StrictJudge()
    figures = run(model, small_release, tmp_path / "run", judge)
    assert sorted(item.id for item in judge.seen) == ["a_0", "b_1"]
    assert figures["coverage"] == 1.0


def test_a_judge_that_skips_an_item_leaves_it_unscored(
    model: Any, small_release: Any, tmp_path: Path
) -> None:
    class Half(StrictJudge):
        def judge(self, items: Sequence[JudgeItem]) -> Iterator[Verdict]:
            yield from super().judge(items[::2])

    figures = run(model, small_release, tmp_path / "run", Half())
    assert figures["n_unscored"] == 3
    assert figures["unscored"] == {"the judge gave no verdict": 3}


def test_limit_asks_the_first_and_a_later_run_the_rest(
    model: Any, small_release: Any, tmp_path: Path
) -> None:
    assert run(model, small_release, tmp_path / "run", limit=2)["n"] == 2
    assert run(model, small_release, tmp_path / "run")["n"] == 6
    assert len(model.calls) == 6


def test_a_folder_refuses_another_model_judge_or_setting(
    model: Any,
    make_model: Callable[[str], Any],
    small_release: Any,
    tmp_path: Path,
) -> None:
    run(model, small_release, tmp_path / "run")
    before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    other = make_model("other")
    (other.folder / f"{other.spec.split(':')[1]}.py").open("a").write("# another\n")
    with pytest.raises(UserError, match=r"model\.name .* there, .* here"):
        run(other, small_release, tmp_path / "run")
    with pytest.raises(UserError, match=r"msvd_qa\.judge\.name exact there, strict here"):
        run(model, small_release, tmp_path / "run", StrictJudge())
    with pytest.raises(UserError, match=r"msvd_qa\.frames 8 there, 9 here"):
        run(model, small_release, tmp_path / "run", settings=AnswerSettings(frames=9))
    with pytest.raises(UserError, match="cannot obey --generation max_new_tokens; takes --frames"):
        run(model, small_release, tmp_path / "run", max_new_tokens=9)
    assert {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()} == before


def test_a_folder_refuses_other_questions_under_the_same_ids(
    model: Any, small_release: Any, tmp_path: Path
) -> None:
    run(model, small_release, tmp_path / "run")
    rows = small_release.folder / "video_instruction" / "test" / "msvd.qa.jsonl"
    rows.write_text(rows.read_text().replace("Is it red?", "Is it dark?"))
    with pytest.raises(UserError, match="3 answers of msvd_qa were given to another prompt"):
        run(model, small_release, tmp_path / "run")


def test_a_changed_reference_is_judged_again(
    model: Any, small_release: Any, tmp_path: Path
) -> None:
    run(model, small_release, tmp_path / "run", StrictJudge())
    rows = small_release.folder / "video_instruction" / "test" / "msvd.qa.jsonl"
    rows.write_text(rows.read_text().replace('"value": "blue"', '"value": "navy"'))
    judge = StrictJudge()
    figures = run(model, small_release, tmp_path / "run", judge)
    assert [item.id for item in judge.seen] == ["c_0"]
    assert figures["accuracy"]["value"] == pytest.approx(3 / 6)


def test_a_second_task_joins_the_folder(model: Any, small_release: Any, tmp_path: Path) -> None:
    tests = small_release.folder / "video_instruction" / "test"
    (tests / "msvd.qa.official.jsonl").write_bytes((tests / "msvd.qa.jsonl").read_bytes())
    run(model, small_release, tmp_path / "run")
    results = run_evaluation(
        model.spec,
        ["msvd_qa_official"],
        "exact",
        tmp_path / "run",
        data_dir=small_release.folder,
    )
    # The same ids in both tasks: neither takes the other's place.
    assert {name: task["n"] for name, task in results["tasks"].items()} == {
        "msvd_qa": 6,
        "msvd_qa_official": 6,
    }
    assert len(model.calls) == 12


def test_nothing_is_written_when_something_is_wrong_beforehand(
    model: Any, small_release: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    out, data = tmp_path / "run", small_release.folder
    wrong: list[tuple[str, list[str], str, dict[str, Any], str]] = [
        (model.spec, ["msvd"], "exact", {}, "did you mean msvd_qa"),
        (model.spec, ["msvd_qa"], "exakt", {}, "did you mean exact"),
        ("hff:x", ["msvd_qa"], "exact", {}, "unknown kind of model 'hff'; did you mean hf"),
        (model.spec, [], "exact", {}, "no task"),
        (model.spec, ["msvd_qa"], "exact", {"data_dir": tmp_path / "nowhere"}, "no such"),
        (model.spec, ["msvd_qa"], "exact", {"media": tmp_path / "nowhere"}, "no such"),
        (model.spec, ["msvd_qa"], "exact", {"limit": 0}, "limit must be at least 1"),
    ]
    for spec, tasks, judge, options, message in wrong:
        with pytest.raises(UserError, match=message):
            run_evaluation(spec, tasks, judge, out, **({"data_dir": data} | options))
    assert not out.exists()


def test_a_folder_of_something_else_is_left_alone(
    model: Any, small_release: Any, tmp_path: Path
) -> None:
    out = tmp_path / "notes"
    out.mkdir()
    write_jsonl(out / "predictions.jsonl", [{"mine": 1}])
    with pytest.raises(UserError, match="not empty and not a run folder"):
        run(model, small_release, out)
    assert [p.name for p in out.iterdir()] == ["predictions.jsonl"]


def test_a_second_writer_is_refused(model: Any, small_release: Any, tmp_path: Path) -> None:
    run(model, small_release, tmp_path / "run")
    with (tmp_path / "run" / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process"):
            run(model, small_release, tmp_path / "run")
    run(model, small_release, tmp_path / "run")


def test_a_log_that_cannot_be_read_leaves_no_lock(
    model: Any, small_release: Any, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    run(model, small_release, out)
    log = (out / "judgements.jsonl").read_text()
    (out / "judgements.jsonl").write_text("no JSON\n" + log)
    kept = []  # an error that is kept holds on to what was open where it was raised
    for _ in range(2):
        with pytest.raises(UserError, match=r"judgements\.jsonl:1: not JSON") as caught:
            run(model, small_release, out)
        kept.append(caught.value)
    (out / "judgements.jsonl").write_text(log)
    run(model, small_release, out)


def test_a_disk_without_locks_is_not_another_process(
    model: Any, small_release: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refused)
    with pytest.raises(UserError, match=r"run: cannot be written \(No locks available\)"):
        run(model, small_release, tmp_path / "run")


def test_a_run_folder_that_cannot_be_made(model: Any, small_release: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"is a file; give another --out") as caught:
        run(model, small_release, tmp_path / "file" / "run")
    assert caught.value.exit_code == 2


def test_answers_of_a_run_judged_anew(model: Any, small_release: Any, tmp_path: Path) -> None:
    model.set(fails=["Is it red?"])
    run(model, small_release, tmp_path / "run")
    model.set()
    run(model, small_release, tmp_path / "run")  # leaves failed and later good lines of one id
    judge = StrictJudge()
    results = judge_predictions(
        tmp_path / "run" / "predictions.jsonl",
        ["msvd_qa"],
        judge,
        tmp_path / "again",
        data_dir=small_release.folder,
    )
    assert results["tasks"]["msvd_qa"]["accuracy"]["value"] == pytest.approx(4 / 6)
    assert len(judge.seen) == 6


def test_a_mended_prediction_is_judged_again_alone(small_release: Any, tmp_path: Path) -> None:
    answers = {"a_0": "red", "a_1": "yes", "b_0": "grey", "b_1": "no", "c_0": "blue"}
    file = tmp_path / "answers.jsonl"
    judges = StrictJudge(), StrictJudge()
    for judge, accuracy in zip(judges, (4 / 6, 5 / 6), strict=True):
        write_jsonl(file, [{"id": key, "prediction": text} for key, text in answers.items()])
        results = judge_predictions(
            file, ["msvd_qa"], judge, tmp_path / "run", data_dir=small_release.folder
        )
        figures = results["tasks"]["msvd_qa"]
        assert figures["accuracy"]["value"] == pytest.approx(accuracy)
        assert figures["missing_predictions"] == ["c_1"]
        answers["b_0"] = "green"
    assert [item.id for item in judges[1].seen] == ["b_0"]


class Unhurried(Model):
    """A model whose weights are known by their hash only once it has answered."""

    spec = "test:unhurried"
    frames = 2

    def __init__(self) -> None:
        self.asked = threading.Event()

    def describe(self) -> dict[str, Any]:
        if not self.asked.wait(20):
            raise UserError("its answers wait for its hash")
        return {"kind": "test", "weights_hash": "ab" * 32}

    def generate(self, requests: Sequence[Request], params: SamplingParams) -> Iterator[Answer]:  # noqa: ARG002
        self.asked.set()
        yield from (Answer(request, ("red",)) for request in requests)


def test_answers_begin_while_the_weights_are_hashed(small_release: Any, tmp_path: Path) -> None:
    class Paid(StrictJudge):
        def judge(self, items: Sequence[JudgeItem]) -> Iterator[Verdict]:
            assert len(rows_of(out / "predictions.jsonl")) == 6  # on disk before money is spent
            return super().judge(items)

    out = tmp_path / "run"
    run_evaluation(Unhurried(), ["msvd_qa"], Paid(), out, data_dir=small_release.folder)
    assert json.loads((out / "run.json").read_text())["model"]["weights_hash"] == "ab" * 32
    assert len(rows_of(out / "predictions.jsonl")) == len(rows_of(out / "judgements.jsonl")) == 6


class Drawing(Model):
    """A model that says what it was asked with; its endpoint may refuse a setting on the way."""

    spec = "test:drawing"

    def describe(self) -> dict[str, Any]:
        return {"kind": "test", "decoding": "greedy"}

    def generate(self, requests: Sequence[Request], params: SamplingParams) -> Iterator[Answer]:
        text = f"{params.temperature} {params.top_p} {params.seed} {params.max_new_tokens}"
        yield from (Answer(request, (text,)) for request in requests)


def test_settings_of_decoding_are_obeyed_and_recorded(small_release: Any, tmp_path: Path) -> None:
    out, task = tmp_path / "run", ["msvd_qa"]
    generation = {"temperature": 0.5, "top_p": 0.9, "seed": 3}
    given: dict[str, Any] = {"data_dir": small_release.folder, "max_new_tokens": 6}
    drawing = Drawing()
    run_evaluation(
        drawing, task, "exact", out, settings=AnswerSettings(generation=generation), **given
    )
    assert {row["prediction"] for row in rows_of(out / "predictions.jsonl")} == {"0.5 0.9 3 6"}
    about = json.loads((out / "run.json").read_text())
    assert about["seeds"] == {"answers": 3}
    assert (about["model"]["decoding"], about["model"]["temperature"]) == ("sampled", 0.5)
    assert about["tasks"]["msvd_qa"]["generation"] == generation
    assert about["tasks"]["msvd_qa"]["settings_changed"] == {
        "max_new_tokens": [1024, 6], "temperature": [0.0, 0.5], "top_p": [1.0, 0.9]
    }  # fmt: skip
    with pytest.raises(UserError, match="decoding sampled there, greedy here"):
        run_evaluation(drawing, task, "exact", out, **given)
    twice = AnswerSettings(generation={"max_new_tokens": 7})
    with pytest.raises(UserError, match="max_new_tokens is given twice, as 6 and as 7"):
        run_evaluation(drawing, task, "exact", tmp_path / "no", settings=twice, **given)
    brief = AnswerSettings(system="Be brief.")
    with pytest.raises(UserError, match="test:drawing: cannot obey --system; takes --frames"):
        run_evaluation(drawing, task, "exact", tmp_path / "no", settings=brief, **given)
    drawing.refused = ["top_p"]  # known only from what the endpoint says to a question
    with pytest.raises(UserError, match="its endpoint refused top_p for some answers"):
        run_evaluation(
            *(drawing, task, "exact", tmp_path / "lost"),
            settings=AnswerSettings(generation=generation),
            **given,
        )
    assert not (tmp_path / "lost" / "results.json").exists()
