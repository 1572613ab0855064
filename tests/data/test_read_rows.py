"""Files of the release to rows: splits, ids, broken lines, missing videos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo import list_datasets, read_rows
from sharegptvideo.data.sources import DataWarning, ReadReport
from sharegptvideo.errors import UserError

Row = Callable[..., dict[str, Any]]
Write = Callable[..., Path]


def test_every_set_of_the_shared_release(shared_data: Path) -> None:
    source = shared_data / "release"
    counts = {"captions": 5, "qa": 15, "preferences": 8, "webvid_qa": 6, "msrvtt_qa": 3}
    counts |= {"tgif_qa": 6, "msrvtt_qa_official": 1, "tgif_qa_official": 1}
    for name, count in counts.items():
        split = "test" if "_qa" in name else "train"
        rows = list(read_rows(name, source, split))
        assert len(rows) == count, name
        assert "<video>" not in str(rows)
        assert len({row["id"] for row in rows}) == count
    unscored = [row for row in read_rows("preferences", source) if row["chosen_score"] is None]
    assert [row["prompt"] for row in unscored] == ["What is the baby wearing on its face?"]


def test_sft_rows_repeated_by_a_later_file_are_left_out_and_told(shared_data: Path) -> None:
    report = ReadReport()
    with pytest.warns(DataWarning, match="2 rows left out, repeating an earlier file's"):
        rows = list(read_rows("sft", shared_data / "release", report=report))
    # 11 rows of one file, 3 captions in the other, two of them in both.
    assert len(rows) == 12
    assert [line.rsplit("/", 1)[-1] for line in report.repeated] == [
        "video_caption_300k.jsonl:1",
        "video_caption_300k.jsonl:2",
    ]


def test_repeats_within_a_file_stay_and_ids_are_numbered(
    release: Path, write: Write, qa_row: Row
) -> None:
    write("train/qa/a.jsonl", qa_row(1), qa_row(1), qa_row(1, answer_type="x", video="other"))
    write("train/qa/b.jsonl", qa_row(2), qa_row(1, video="third"))
    ids = [row["id"] for row in read_rows("qa", release)]
    assert ids == ["q1", "q1#2", "q1#3", "q2", "q1#4"]


def test_broken_line_names_file_and_line(release: Path, write: Write, qa_row: Row) -> None:
    path = write("train/qa/a.jsonl", qa_row(1), "", '{"id": "q2", ', qa_row(3))
    with pytest.raises(UserError) as caught:
        list(read_rows("qa", release))
    assert str(caught.value).startswith(f"{path}:3: not JSON")


def test_row_that_breaks_the_schema_names_file_line_and_cause(
    release: Path, write: Write, qa_row: Row
) -> None:
    path = write("train/qa/a.jsonl", qa_row(1), qa_row(2, video="../x"))
    with pytest.raises(UserError) as caught:
        list(read_rows("qa", release))
    assert str(caught.value).startswith(f"{path}:2: 'video' leads out of its folder")
    assert "\n" not in str(caught.value)


def test_skip_counts_and_lists(release: Path, write: Write, qa_row: Row) -> None:
    bad = [qa_row(n, conversations=[]) for n in range(3)]
    path = write("train/qa/a.jsonl", qa_row(7), "no json", *bad, "[1]", b"\xff".decode("latin1"))
    path.write_bytes(path.read_bytes().replace("\xff".encode(), b"\xff"))
    report = ReadReport()
    with pytest.warns(DataWarning) as caught:
        rows = list(read_rows("qa", release, on_error="skip", report=report))
    assert [row["id"] for row in rows] == ["q7"]
    assert [line.split(": ")[0] for line in report.skipped] == [f"{path}:{n}" for n in range(2, 8)]
    assert "not UTF-8" in report.skipped[-1]
    text = str(caught[0].message)
    assert text.startswith("6 rows skipped, breaking the schema")
    assert text.endswith("and 3 more")


def test_stopping_early_still_tells_what_was_skipped(
    release: Path, write: Write, qa_row: Row
) -> None:
    write("train/qa/a.jsonl", "{}", qa_row(1), qa_row(2))
    rows = read_rows("qa", release, on_error="skip")
    assert next(rows)["id"] == "q1"
    with pytest.warns(DataWarning, match="1 row skipped, breaking the schema"):
        rows.close()  # type: ignore[attr-defined]  # a generator, as documented by its laziness


def test_unknown_on_error(release: Path, write: Write, qa_row: Row) -> None:
    write("train/qa/a.jsonl", qa_row(1))
    with pytest.raises(UserError, match=r"unknown on_error 'ignore'.*raise, skip"):
        list(read_rows("qa", release, on_error="ignore"))


def test_mark_of_byte_order_and_windows_line_ends(release: Path, write: Write, qa_row: Row) -> None:
    write("train/qa/a.jsonl", qa_row(1), qa_row(2, answer="é"), head="\ufeff", end="\r\n")
    assert [row["answer"] for row in read_rows("qa", release)] == ["It is 1.", "It is 2."]


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown dataset 'caption'; did you mean captions, "):
        read_rows("caption", "anywhere")
    with pytest.raises(UserError, match=r"unknown split of qa 'valid'; did you mean validation\?"):
        read_rows("qa", "anywhere", "valid")
    with pytest.raises(UserError, match=r"unknown split of msvd_qa 'train' \(known: test\)"):
        read_rows("msvd_qa", "anywhere", "train")


def test_missing_folder_and_file_say_what_was_looked_for(release: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such folder"):
        read_rows("qa", tmp_path / "nowhere")
    with pytest.raises(UserError) as caught:
        list(read_rows("activitynet_qa", release, "test"))
    assert f"{release}: no video_instruction/test/actnet.qa.jsonl" in str(caught.value)


def test_revision_is_for_the_hub(release: Path) -> None:
    with pytest.raises(UserError, match="revision= is for the Hub"):
        read_rows("qa", release, revision="main")


def test_root_may_be_the_inner_folder_or_above_both_repositories(
    release: Path, write: Write, qa_row: Row, tmp_path: Path
) -> None:
    write("train/qa/a.jsonl", qa_row(1))
    expected = list(read_rows("qa", release))
    assert list(read_rows("qa", release / "video_instruction")) == expected
    above = tmp_path / "above"
    above.mkdir()
    release.rename(above / "train_video_and_instruction")
    assert list(read_rows("qa", above)) == expected


def test_media_resolves_and_lists_what_is_missing(
    release: Path, write: Write, qa_row: Row, tmp_path: Path
) -> None:
    media = tmp_path / "media"
    (media / "videos").mkdir(parents=True)
    clip = media / "videos" / "here.mp4"
    clip.write_bytes(b"x")
    write("train/qa/a.jsonl", qa_row(1, "here"), *[qa_row(n, f"gone_{n // 2}") for n in (2, 3, 4)])
    report = ReadReport()
    with pytest.warns(DataWarning, match=r"2 videos not found.*gone_1; gone_2$"):
        rows = list(read_rows("qa", release, media=media, report=report))
    assert [row["video_path"] for row in rows] == [str(clip), None, None, None]
    assert report.missing_videos == ["gone_1", "gone_2"]
    with pytest.raises(UserError, match="no such folder; media="):
        read_rows("qa", release, media=tmp_path / "nowhere")


def test_a_missing_image_is_no_missing_video(
    release: Path, write: Write, qa_row: Row, tmp_path: Path
) -> None:
    row = qa_row(1, image="a.jpg")
    del row["video"]
    write("train/sft/a.jsonl", row)
    with pytest.warns(DataWarning) as caught:
        (read,) = read_rows("sft", release, media=tmp_path)
    assert (read["image"], read["video_path"], read["image_path"]) == ("a.jpg", None, None)
    (warning,) = caught
    assert str(warning.message) == "1 image not found, image_path is null: a.jpg"


def test_list_datasets() -> None:
    assert list_datasets()[:5] == ["captions", "qa", "sft", "image_captions", "preferences"]
    assert "synthetic_ood_qa" in list_datasets()
