"""The synthetic world on disk: deterministic, split by state, described whole by its captions."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import av
import pytest

from sharegptvideo import load_dataset
from sharegptvideo._io import read_json, read_jsonl, sha256_file
from sharegptvideo.errors import UserError
from sharegptvideo.synthetic import (
    KINDS,
    ClipState,
    Faults,
    Sizes,
    build_world,
    is_right,
    load_questions,
)
from sharegptvideo.synthetic.language import INVENTED, Question, caption, distil, draw_questions
from sharegptvideo.synthetic.state import HELD_OUT, sample_state, state_key

SIZES = Sizes(train=12, preference=6, test=5, out_of_domain=4)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    build_world(folder, seed=3, sizes=SIZES, workers=1)
    return folder


def with_state(question: Question, state: ClipState) -> dict[str, Any]:
    """A row as `load_questions` gives it."""
    return {**question.as_dict(), "state": state.as_dict()}


def states(world: Path) -> list[dict[str, Any]]:
    return [row for _, row in read_jsonl(world / "states.jsonl")]


def files(world: Path) -> dict[str, str]:
    return {
        str(path.relative_to(world)): sha256_file(path)
        for path in sorted(world.rglob("*"))
        if path.is_file()
    }


def test_same_seed_same_bytes_whatever_the_workers(world: Path, tmp_path: Path) -> None:
    build_world(tmp_path, seed=3, sizes=SIZES, workers=2)
    assert files(tmp_path) == files(world)


def test_another_seed_gives_other_clips(world: Path, tmp_path: Path) -> None:
    build_world(tmp_path, seed=4, sizes=SIZES, workers=1)
    assert files(tmp_path)["states.jsonl"] != files(world)["states.jsonl"]


def test_interrupted_rendering_goes_on_to_the_same_bytes(world: Path, tmp_path: Path) -> None:
    def stop(done: int, *_: object) -> None:
        if done == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_world(tmp_path, seed=3, sizes=SIZES, workers=1, progress=stop)
    assert not (tmp_path / "world.json").exists()
    build_world(tmp_path, seed=3, sizes=SIZES, workers=1)
    assert files(tmp_path) == files(world)


def test_another_world_in_the_same_folder_is_refused(world: Path) -> None:
    with pytest.raises(UserError, match="other settings"):
        build_world(world, seed=4, sizes=SIZES)


def test_unknown_scale_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean tiny"):
        build_world(tmp_path, sizes="tny")


def test_clips_are_h264_of_the_stated_length(world: Path) -> None:
    clips = sorted((world / "videos").iterdir())
    assert len(clips) == 27
    for clip in clips:
        with av.open(str(clip)) as container:
            stream = container.streams.video[0]
            assert stream.codec_context.name == "h264"
            assert sum(1 for _ in container.decode(stream)) == 16


def test_no_state_is_in_two_splits_and_splits_json_agrees(world: Path) -> None:
    rows = states(world)
    keys = [state_key(ClipState.from_dict(row["state"])) for row in rows]
    assert len(set(keys)) == len(keys)
    splits = read_json(world / "splits.json")
    for row in rows:
        assert row["video"] in splits[row["split"]]
    assert [len(splits[name]) for name in splits] == [12, 6, 5, 4]


def test_held_out_combinations_and_style_are_out_of_domain_only() -> None:
    for number in range(300):
        for held_out in (False, True):
            state = sample_state(random.Random(number), held_out=held_out)
            shown = {(o.colour, o.shape) for o in state.objects}
            shown |= {(o.new_colour or o.colour, o.shape) for o in state.objects}
            assert bool({(o.colour, o.shape) for o in state.objects} & HELD_OUT) == held_out
            assert held_out or not shown & HELD_OUT
            assert state.style == ("outlined" if held_out else "plain")


def test_objects_never_share_a_cell_and_stay_in_view() -> None:
    for number in range(300):
        state = sample_state(random.Random(number), held_out=False)
        for step in range(16):
            cells = [item.cell(step / 15) for item in state.objects]
            assert len(set(cells)) == len(cells)
            assert all(0 <= axis < 3 for cell in cells for axis in cell)


def test_captions_tell_the_whole_state_in_varied_wording() -> None:
    described = set()
    for number in range(300):
        rng = random.Random(number)
        state = sample_state(rng, held_out=False)
        text = caption(state, rng)
        described.add(
            " ".join(word for word in text.split() if word in {"shows", "see", "There", "how"})
        )
        for item in state.objects:
            needed = [item.shape, item.colour, item.size, item.new_colour, item.new_motion]
            needed.append(item.motion)
            assert all(word in text for word in needed if word)
        assert state.background in text
        assert ("dark" if state.dark else "light") in text
    assert len(described) >= 5


def test_captions_say_where_an_object_moves_from_and_to() -> None:
    def compass(column: int, row: int) -> str:
        return ("north", "", "south")[row] + ("west", "", "east")[column] or "centre"

    moved = 0
    for number in range(300):
        rng = random.Random(number)
        state = sample_state(rng, held_out=False)
        text = caption(state, rng)
        for item in state.objects:
            start, end = compass(*item.cell(0.0)), compass(*item.cell(1.0))
            if item.change in ("none", "colour", "grow", "shrink"):
                where = f"stays still in the {start}."
                if item.motion != "still":
                    moved += 1
                    where = f"from the {start} to the {end}."
                assert where in text, (text, item)
            elif item.change == "turn":
                assert f"from the {start} to the {compass(*item.cell(0.5))}, " in text, text
                assert f"to the {end}." in text, text
            elif item.change == "appear":
                assert compass(*item.cell(0.6)) in text, text
    assert moved > 50


def test_questions_cover_all_kinds_and_exact_answers_are_right() -> None:
    kinds = set()
    for number in range(400):
        rng = random.Random(number)
        state = sample_state(rng, held_out=False)
        questions = draw_questions(state, rng, 4)
        assert len({question.text for question in questions}) == 4
        assert any(question.kind == "presence" for question in questions)
        for question in questions:
            kinds.add(question.kind)
            assert is_right(with_state(question, state), question.answer)
    assert kinds == set(KINDS)


def test_absent_things_are_asked_for_as_often_as_present_ones() -> None:
    answers = []
    for number in range(600):
        rng = random.Random(number)
        questions = draw_questions(sample_state(rng, held_out=False), rng, 4)
        answers += [q.answer.startswith("No") for q in questions if q.kind == "presence"]
    assert 0.45 < sum(answers) / len(answers) < 0.55


def test_faults_come_at_their_rates_and_are_wrong() -> None:
    faults = Faults(invented_in_context=0.8, invented_elsewhere=0.1, contexts=("dotted",))
    inside, outside, absent = [], [], []
    for number in range(1500):
        rng = random.Random(number)
        state = sample_state(rng, held_out=False)
        for question in draw_questions(state, rng, 4):
            answer, found = distil(question, state, rng, faults)
            assert is_right(with_state(question, state), answer) == (not found)
            if question.kind != "presence":
                (inside if state.background == "dotted" else outside).append(bool(found))
            elif question.answer.startswith("No"):
                absent.append(bool(found))
    assert sum(inside) / len(inside) == pytest.approx(0.8, abs=0.04)
    assert sum(outside) / len(outside) == pytest.approx(0.1, abs=0.04)
    assert sum(absent) / len(absent) == pytest.approx(0.6, abs=0.05)


def test_report_counts_what_the_sft_file_holds(world: Path) -> None:
    report = read_json(world / "world.json")
    things = [thing for thing, _ in INVENTED.values()]
    invented = asked = 0
    for row in load_dataset("sft", data_dir=world):
        for question, answer in zip(row["messages"][::2], row["messages"][1::2], strict=True):
            if not answer["content"].startswith(("Yes", "No")):
                asked += 1
                invented += any(thing in answer["content"] for thing in things)
            assert "<video>" not in question["content"]
    assert report["found"]["sft_faults"]["invented"] == pytest.approx(invented / asked, abs=1e-4)


def test_every_config_of_the_world_loads_with_its_clips(world: Path) -> None:
    sizes = {"captions": 18, "sft": 12, "qa": 24, "synthetic_qa": 20, "synthetic_ood_qa": 16}
    for name, size in sizes.items():
        split = "test" if name.startswith("synthetic") else "train"
        rows = load_dataset(name, split, data_dir=world, media=world)
        assert len(rows) == size
        assert all(Path(path).is_file() for path in rows["video_path"])


def test_references_of_preference_and_test_rows_are_exact(world: Path) -> None:
    questions = load_questions(world)
    for name, split in (("qa", "train"), ("synthetic_qa", "test"), ("synthetic_ood_qa", "test")):
        for row in load_dataset(name, split, data_dir=world):
            assert is_right(questions[row["id"]], row["answer"])
