"""`convert`: files in, Parquet that `load_dataset` reads out; all splits or none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo import load_dataset, read_rows
from sharegptvideo.data.convert import convert
from sharegptvideo.data.sources.original_rows import read_msvd
from sharegptvideo.errors import UserError
from tests.support.kill_points import contents, kill_points


def qa(number: int, video: int, **changes: Any) -> dict[str, Any]:
    return {"id": number, "question": "who?", "answer": "man", "video_id": video, **changes}


def write(path: Path, *entries: dict[str, Any]) -> Path:
    path.write_text(json.dumps(entries), "utf-8")
    return path


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


@pytest.fixture
def msvd(tmp_path: Path) -> Path:
    folder = tmp_path / "MSVD-QA"
    folder.mkdir()
    write(folder / "train_qa.json", qa(0, 1), qa(1, 1200))
    write(folder / "val_qa.json", qa(2, 1201))
    write(folder / "test_qa.json", qa(3, 1451), qa(4, 1970), qa(5, 1970))
    return folder


def test_every_split_of_a_folder_is_loaded_under_its_name(msvd: Path, tmp_path: Path) -> None:
    to = tmp_path / "out"
    done = convert("msvd-qa", [msvd], to)
    assert done.config == "msvd_qa_official"
    assert {name: (part.rows, part.videos) for name, part in done.splits.items()} == {
        "test": (3, 2),
        "train": (2, 2),
        "validation": (1, 1),
    }
    assert done.complete == {"test": False, "train": False, "validation": False}
    assert files(to) == [
        "msvd_qa_official",
        *(
            f"msvd_qa_official/{split}-00000-of-00001.parquet"
            for split in ("test", "train", "validation")
        ),
    ]
    for split, file in (("train", "train"), ("validation", "val"), ("test", "test")):
        expected = list(read_msvd(msvd / f"{file}_qa.json"))
        assert list(read_rows("msvd_qa_official", to, split)) == expected
    both = load_dataset("msvd_qa_official", "train+validation", data_dir=to)
    assert both["id"] == ["0", "1", "2"]


def test_a_folder_without_the_split_says_what_it_has(msvd: Path, tmp_path: Path) -> None:
    convert("msvd-qa", [msvd / "val_qa.json"], tmp_path / "out")
    with pytest.raises(UserError, match=r"no split 'test' here \(found: validation\)"):
        load_dataset("msvd_qa_official", "test", data_dir=tmp_path / "out")


def test_a_renamed_file_is_found_out_by_its_clips(msvd: Path, tmp_path: Path) -> None:
    shutil.copy(msvd / "val_qa.json", msvd / "test_qa.json")
    message = "entry 1: clip 1201 of MSVD-QA belongs to validation, not to test"
    for on_error in ("raise", "skip"):
        with pytest.raises(UserError, match=message):
            convert("msvd-qa", [msvd / "test_qa.json"], tmp_path / "out", on_error=on_error)
    assert not (tmp_path / "out").exists()


def test_one_broken_split_and_none_is_written(msvd: Path, tmp_path: Path) -> None:
    write(msvd / "val_qa.json", qa(2, 1201), qa(3, 1202, answer=""))
    with pytest.raises(UserError, match=r"val_qa\.json: entry 2: 'answer' is empty"):
        convert("msvd-qa", [msvd], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    done = convert("msvd-qa", [msvd], tmp_path / "out", on_error="skip")
    assert done.splits["validation"].rows == 1
    assert len(done.report.skipped) == 1
    assert "val_qa.json: entry 2: 'answer' is empty" in done.report.skipped[0]


def test_a_split_without_rows_and_none_is_written(msvd: Path, tmp_path: Path) -> None:
    write(msvd / "test_qa.json")
    with pytest.raises(UserError, match=r"test_qa\.json: no row to write for test"):
        convert("msvd-qa", [msvd], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_id_that_occurs_twice_is_named_with_both_places(msvd: Path, tmp_path: Path) -> None:
    file = write(msvd / "test_qa.json", qa(3, 1451), qa(4, 1451), qa(3, 1452))
    with pytest.raises(UserError) as caught:
        convert("msvd-qa", [file], tmp_path / "out")
    assert f"{file}: entry 3: id '3' is that of {file}: entry 1 too" in str(caught.value)


def test_a_split_is_replaced_only_when_asked(msvd: Path, tmp_path: Path) -> None:
    to = tmp_path / "out"
    convert("msvd-qa", [msvd / "test_qa.json"], to)
    before = {path: path.read_bytes() for path in to.rglob("*.parquet")}
    write(msvd / "test_qa.json", qa(9, 1500))
    with pytest.raises(UserError, match=r"has msvd_qa_official test already; .* --overwrite"):
        convert("msvd-qa", [msvd], to)
    assert {path: path.read_bytes() for path in to.rglob("*.parquet")} == before
    convert("msvd-qa", [msvd / "val_qa.json"], to)
    convert("msvd-qa", [msvd / "test_qa.json"], to, overwrite=True)
    assert [row["id"] for row in read_rows("msvd_qa_official", to, "test")] == ["9"]
    assert [row["id"] for row in read_rows("msvd_qa_official", to, "validation")] == ["2"]


def test_same_files_same_bytes(msvd: Path, tmp_path: Path, synced: list[Path]) -> None:
    for name in ("a", "b"):
        convert("msvd-qa", [msvd], tmp_path / name)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    for path in (tmp_path / "a").rglob("*.parquet"):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()
    assert {tmp_path / name / "msvd_qa_official" for name in ("a", "b")} <= set(synced)


def test_captions_join_rows_that_have_none(msvd: Path, tmp_path: Path) -> None:
    mapping = tmp_path / "youtube_mapping.txt"
    mapping.write_text("abc_1_5 vid1451\ndef_2_9 vid1970\n")
    captions = tmp_path / "captions.tsv"
    captions.write_text("video\tcaption\ndef_2_9.avi\tA man runs.\n")
    to = tmp_path / "out"
    options: dict[str, Any] = {"mapping": mapping, "captions": [captions], "config": "msvd_qa"}
    done = convert("msvd-qa", [msvd / "test_qa.json"], to, **options)
    rows = list(read_rows("msvd_qa", to, "test"))
    assert [(row["video"], row["caption"]) for row in rows] == [
        ("abc_1_5", None),
        ("def_2_9", "A man runs."),
        ("def_2_9", "A man runs."),
    ]
    assert done.captioned == 2


def test_questions_for_training_carry_their_source(msvd: Path, tmp_path: Path) -> None:
    convert("msvd-qa", [msvd / "train_qa.json"], tmp_path / "out", config="qa")
    rows = list(read_rows("qa", tmp_path / "out", "train"))
    assert [(row["source"], row["video"]) for row in rows] == [
        ("MSVD", "vid1"),
        ("MSVD", "vid1200"),
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "msvd"}, "unknown source 'msvd'; did you mean msvd-qa"),
        ({"config": "captions"}, "captions has no question and answer, which MSVD-QA has"),
        ({"config": "qaa"}, "unknown dataset 'qaa'; did you mean qa"),
        ({"config": "webvid_qa"}, r"webvid_qa has no split 'train' \(it has: test\)"),
        ({"split": "test"}, "by its name, not test; leave out --split"),
        ({"on_error": "ignore"}, "unknown on_error 'ignore'"),
        ({"source": "tgif-qa"}, "no file of TGIF-QA here"),
        ({"source": "tgif-qa", "mapping": "x"}, "no file of TGIF-QA here"),
        ({"mapping": "absent.txt"}, r"absent\.txt: cannot be read"),
        ({"captions": ["absent.csv"]}, r"absent\.csv: cannot be read"),
    ],
)
def test_what_cannot_be_asked(
    msvd: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    options = {"source": "msvd-qa", **options}
    with pytest.raises(UserError, match=message):
        convert(options.pop("source"), [msvd], tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_absent_files_and_a_target_that_is_a_file(msvd: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing\.json: no such file"):
        convert("msvd-qa", [tmp_path / "nothing.json"], tmp_path / "out")
    with pytest.raises(UserError, match="is a file; --to is the folder"):
        convert("msvd-qa", [msvd], msvd / "val_qa.json")


def test_mapping_is_for_numbered_clips(tmp_path: Path) -> None:
    write(tmp_path / "test_q.json")
    write(tmp_path / "test_a.json")
    with pytest.raises(UserError, match="--mapping is for msvd-qa and msrvtt-qa"):
        convert("activitynet-qa", [tmp_path], tmp_path / "out", mapping=tmp_path / "names.txt")


def test_answers_stand_for_their_questions(tmp_path: Path) -> None:
    asked = {"video_name": "1QIUV7WYKXg", "question": "is it?", "question_id": "v_1QIUV7WYKXg_3"}
    questions = write(tmp_path / "val_q.json", asked)
    answers = write(
        tmp_path / "val_a.json", {"answer": "no", "type": 3, "question_id": "v_1QIUV7WYKXg_3"}
    )
    done = convert("activitynet-qa", [answers, questions, tmp_path], tmp_path / "out")
    assert {name: part.rows for name, part in done.splits.items()} == {"validation": 1}
    questions.unlink()
    with pytest.raises(UserError, match=r"its questions, val_q\.json, are not beside it"):
        convert("activitynet-qa", [answers], tmp_path / "other")


def test_activitynet_qa_is_not_looked_for_on_the_hub() -> None:
    with pytest.raises(
        UserError, match=r"not in the release; make it .* `sharegptvideo data convert`"
    ):
        load_dataset("activitynet_qa_official", "test")


def test_the_files_of_msvd(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "annotations"
    mapping = folder / "msvd_youtube_mapping.txt"
    given = [folder / "msvd_qa_test_qa.json", folder / "msvd_qa_val_qa.json"]
    done = convert("msvd-qa", given, tmp_path, mapping=mapping)
    assert done.complete == {"test": True, "validation": True}
    table = load_dataset("msvd_qa_official", "validation", data_dir=tmp_path)
    assert (len(table), len(set(table["video"]))) == (6415, 245)
    assert list(table) == list(read_msvd(given[1], mapping))
    clips = set(table["video"]) & set(
        load_dataset("msvd_qa_official", "test", data_dir=tmp_path)["video"]
    )
    assert not clips, "test and validation share no clip"


def test_the_files_of_tgif_lend_each_other_captions(shared_data: Path, tmp_path: Path) -> None:
    frames = shared_data / "annotations" / "tgif_qa_Test_frameqa_question.csv"
    done = convert("tgif-qa", [shared_data / "annotations"], tmp_path, captions=[frames])
    assert (done.splits["test"].rows, done.complete) == (13_691 + 3_554, {})
    rows = list(read_rows("tgif_qa_official", tmp_path, "test"))
    lent = [row for row in rows if row["question_type"] == "count" and row["caption"]]
    assert 0 < len(lent) < 3554
    assert done.captioned == 13_691 + len(lent)


@pytest.mark.parametrize("overwrite", [False, True])
def test_killed_at_any_change_all_splits_are_old_or_new(
    msvd: Path, tmp_path: Path, overwrite: bool
) -> None:
    """And the same command goes on, or says that all of it is there."""
    before, right, out = (tmp_path / name for name in ("before", "right", "out"))
    before.mkdir()
    if overwrite:
        convert("msvd-qa", [msvd / "val_qa.json"], before)
    shutil.copytree(before, right)
    shutil.copytree(before, out)
    convert("msvd-qa", [msvd], right, overwrite=overwrite)
    seen = set()
    for _ in kill_points(lambda: convert("msvd-qa", [msvd], out, overwrite=overwrite)):
        new = shards(out) == shards(right)
        assert new or shards(out) == shards(before)
        seen.add(new)
        if new and not overwrite:
            with pytest.raises(UserError, match=r"has msvd_qa_official .* already"):
                convert("msvd-qa", [msvd], out)
        else:
            convert("msvd-qa", [msvd], out, overwrite=overwrite)
            assert contents(out) == contents(right)
        shutil.rmtree(out)
        shutil.copytree(before, out)
    assert seen == {False, True}


def shards(folder: Path) -> dict[str, bytes]:
    """What readers find of the config, by name."""
    found = (folder / "msvd_qa_official").glob("*.parquet")
    return {path.name: path.read_bytes() for path in found}
