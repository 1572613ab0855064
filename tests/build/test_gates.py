"""Quality gates: each fault is named, real captions pass; near-duplicates by brute force; leaks."""

from __future__ import annotations

import csv
import json
import random
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sharegptvideo.build.gates import (
    CAPTION_GATES,
    QA_GATES,
    GateSettings,
    check_rows,
    write_gates,
)
from sharegptvideo.data.load import read_rows
from sharegptvideo.data.sources import world_folder
from sharegptvideo.data.stats.duplicates import ShingleFile, TextIndex, groups, shingles
from sharegptvideo.data.stats.tokens import tokenise
from sharegptvideo.errors import UserError
from tests.support.clip_copies import Change, copy_clip
from tests.support.golden_gates import CAPTIONS, asked_rows, write_tests
from tests.support.made_captions import made_rows

Rows = list[dict[str, Any]]
ONE = GateSettings(workers=1)


def captions(texts: Iterable[str]) -> Rows:
    """A row for each text, about a clip of its own."""
    return [
        {"id": f"row {n}", "video": f"clip_{n}", "caption": text} for n, text in enumerate(texts)
    ]


def made(count: int, seed: int, copies: float = 0.02) -> list[str]:
    """Captions of made rows."""
    rows: Iterable[Any] = made_rows(count, seed, copies=copies)
    return [row["conversations"][1]["value"] for row in rows]


def test_every_fault_of_a_caption_is_named_and_good_ones_pass() -> None:
    """By hand, of the rows that the golden file pins; leaks are below."""
    rows = [{"id": id, "video": id, "caption": text} for id, text in CAPTIONS.items()]
    report = check_rows("captions", rows, settings=ONE)
    assert report.flags == {
        "dog again": ["near-duplicate"],
        "kitchen, refused": ["refusal"],
        "empty": ["empty"],
        "short": ["too-short"],
        "German": ["language"],
        "Chinese": ["too-short", "language"],
        "still": ["no-change"],
        "babble": ["repeats-itself"],
    }
    reasons = {row.id: [cause.reason for cause in row.causes] for row in report.flagged}
    assert reasons["dog again"] == ["nearly the text of dog"]
    assert reasons["short"] == ["3 words"]
    assert reasons["Chinese"][1] == "looks like: Chinese script"
    assert report.counts["too-short"] == 2
    assert (report.rows, len(report.flagged)) == (12, 8)
    assert report.sentence().startswith("gates: 8 rows of 12 flagged (66.7 %): too-short 2")


def test_every_fault_of_a_question_is_named_and_good_ones_pass() -> None:
    assert check_rows("qa", asked_rows(), settings=ONE).flags == {
        "color again": ["repeats"],
        "not there": ["not-in-caption"],
        "given away": ["gives-answer-away"],
        "counted": ["not-in-caption"],
        "unknown": ["refusal"],
        "no question": ["not-a-question", "gives-answer-away"],
        "French": ["language"],
        "long elsewhere": ["near-duplicate"],
    }


def test_long_texts_and_marks_that_are_set() -> None:
    row = captions(["A dog runs. " * 1000, "A dog runs over grass."])
    on = GateSettings(only=("too-long", "too-short"), workers=1)
    assert check_rows("captions", row, settings=on).flags == {
        "row 0": ["too-long"],
        "row 1": ["too-short"],
    }
    wide = GateSettings(only=on.only, min_words=5, max_chars=12_000, workers=1)
    assert check_rows("captions", row, settings=wide).flags == {}


def test_gates_are_turned_off_by_name_and_the_report_says_so() -> None:
    rows = [{"id": id, "video": id, "caption": text} for id, text in CAPTIONS.items()]
    report = check_rows("captions", rows, settings=GateSettings(without=("language",), workers=1))
    assert report.flags["Chinese"] == ["too-short"]
    assert "language" not in report.counts
    assert report.as_dict()["off"] == ["language"]
    only = check_rows("captions", rows, settings=GateSettings(only=("empty", "repeats"), workers=1))
    assert only.flags == {"empty": ["empty"]}
    with pytest.raises(UserError, match="near-duplicate"):
        check_rows("captions", rows, settings=GateSettings(without=("near-duplicates",)))


def test_rows_without_what_their_kind_has_are_refused() -> None:
    with pytest.raises(UserError, match=r"row 2 \(b\): no 'caption'"):
        check_rows(
            "captions",
            [*captions(["A dog."]), {"id": "b", "video": "b", "caption": None}],
            settings=ONE,
        )


def test_no_rows_are_no_error() -> None:
    for kind in ("captions", "qa"):
        report = check_rows(kind, [], settings=ONE)
        assert (report.rows, report.flagged) == (0, [])
        assert report.sentence() == "gates: all 0 rows pass"


def test_without_test_sets_the_report_says_that_leaks_were_not_searched() -> None:
    report = check_rows(
        "captions", captions(["A dog runs over the grass and stops."]), settings=ONE
    )
    assert set(report.skipped) == {"leak-name", "leak-sight", "leak-text"}
    assert "--against" in report.skipped["leak-name"]
    assert "leak-name" not in report.counts


def test_flagged_rows_are_written_with_a_summary(tmp_path: Path) -> None:
    rows = captions(["A dog runs over the grass, then it stops.", "A dog runs.", "I am sorry."])
    report = check_rows("captions", rows, settings=ONE)
    assert report.flags == {"row 1": ["too-short"], "row 2": ["too-short", "refusal"]}
    write_gates(tmp_path, "captions", report)
    lines = (tmp_path / "captions_gates.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"id": "row 1", "gates": ["too-short"], "reasons": ["3 words"]},
        {
            "id": "row 2",
            "gates": ["too-short", "refusal"],
            "reasons": ["3 words", "says 'i am sorry'"],
        },
    ]
    summary = json.loads((tmp_path / "captions_gates.json").read_text("utf-8"))
    assert (summary["rows"], summary["flagged"], summary["by_gate"]["too-short"]) == (3, 2, 2)


# Flagged of the release in miniature: none; of the world's 300 captions 3 as near-duplicates
# and 1 in which nothing happens; of its still pictures all.
def test_real_captions_pass(shared_data: Path) -> None:
    rows = list(read_rows("captions", shared_data / "release", "train+validation"))
    assert len(rows) == 5
    assert check_rows("captions", rows, settings=ONE).flagged == []
    asked = list(read_rows("qa", shared_data / "release", "train+validation"))
    assert len(asked) == 15
    assert check_rows("qa", asked, settings=ONE).flagged == []


def test_captions_of_the_world_pass_and_its_still_pictures_do_not() -> None:
    rows = read_rows("captions", world_folder(), "train+validation")
    report = check_rows("captions", rows, settings=ONE)
    assert report.rows == 300
    assert report.counts["no-change"] <= 3
    assert len(report.flagged) <= 15
    stills = read_rows("image_captions", world_folder(), "train+validation")
    texts = captions(row["caption"] for row in stills)
    on = GateSettings(only=("no-change",), workers=1)
    assert len(check_rows("captions", texts, settings=on).flagged) == len(texts)


def test_short_descriptions_by_people(shared_data: Path) -> None:
    """What the gates take from a set that is no set of detailed captions."""
    file = shared_data / "annotations" / "tgif_qa_Test_frameqa_question.csv"
    with file.open(encoding="utf-8", newline="") as lines:
        texts = sorted({row["description"] for row in csv.DictReader(lines, delimiter="\t")})
    report = check_rows("captions", captions(texts), settings=ONE)
    shares = {name: count / len(texts) for name, count in report.counts.items()}
    assert 0.05 < shares["too-short"] < 0.09
    assert 0.15 < shares["no-change"] < 0.3
    assert shares["near-duplicate"] < 0.01
    for name in ("empty", "too-long", "refusal", "language", "repeats-itself"):
        assert shares[name] == 0.0, name


def jaccard(one: str, other: str) -> float:
    """Of the sets of runs of three words, plainly."""
    sets = []
    for text in (one, other):
        words = text.lower().replace(".", " ").replace(",", " ").split()
        sets.append({tuple(words[n : n + 3]) for n in range(len(words) - 2)})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_near_duplicates_are_those_of_a_brute_force_search() -> None:
    texts = made(150, 5, 0.4)
    group = list(range(len(texts)))
    for later in range(len(texts)):
        for earlier in range(later):
            if group[later] != group[earlier] and jaccard(texts[earlier], texts[later]) >= 0.7:
                low, high = sorted((group[earlier], group[later]))
                group = [low if root == high else root for root in group]
    wanted = {
        f"row {n}": f"nearly the text of row {root}" for n, root in enumerate(group) if root != n
    }
    on = GateSettings(only=("near-duplicate",), workers=1)
    report = check_rows("captions", captions(texts), settings=on)
    assert len(wanted) > 30
    assert {row.id: row.causes[0].reason for row in report.flagged} == wanted


def test_a_row_that_fails_otherwise_is_no_original() -> None:
    """Of two equal captions the first leaks: the other one stays."""
    text = "A dog runs over the grass, then it stops beside two small cats."
    rows = captions([text + " " + "今天天气很好" * 20, text, text])
    on = GateSettings(only=("language", "near-duplicate"), workers=1)
    report = check_rows("captions", rows, settings=on)
    assert report.flags == {"row 0": ["language"], "row 2": ["near-duplicate"]}


def test_many_rows_give_the_same_in_processes() -> None:
    texts = made(1100, 3)
    texts[1050] = texts[3]
    texts[1001] = "I'm sorry, I cannot help with that."
    one = check_rows(
        "captions", captions(texts), settings=GateSettings(("refusal", "near-duplicate"), workers=1)
    )
    two = check_rows(
        "captions", captions(texts), settings=GateSettings(("refusal", "near-duplicate"), workers=2)
    )
    assert one.flagged == two.flagged
    found = one.flags
    assert found["row 1050"] == ["near-duplicate"]
    assert found["row 1001"] == ["refusal"]


def test_texts_are_found_in_an_index_as_by_brute_force() -> None:
    texts = made(200, 9, 0.0)
    rng = random.Random(0)
    others = []
    for number in range(60):
        words = texts[number].split(" ")
        for place in rng.sample(range(len(words)), number // 4):
            words[place] = "changed"
        others.append(" ".join(words))
    index = TextIndex(shingles(tokenise(texts)))
    nearest = index.find(shingles(tokenise(others))).tolist()
    assert nearest == [n if jaccard(texts[n], others[n]) >= 0.7 else -1 for n in range(len(others))]
    assert -1 in nearest
    assert index.find(shingles(tokenise(["nothing of the kind", ""]))).tolist() == [-1, -1]


def test_shingles_in_files_are_those_in_memory(tmp_path: Path) -> None:
    texts = made(120, 4, 0.4)
    whole = shingles(tokenise(texts))
    with (tmp_path / "values").open("w+b") as values, (tmp_path / "bands").open("w+b") as bands:
        store = ShingleFile(values, bands)
        for start in range(0, 120, 50):
            store.add(shingles(tokenise(texts[start : start + 50])))
        joined = store.joined()
        assert np.array_equal(joined.values, whole.values)
        assert np.array_equal(joined.sizes, whole.sizes)
        assert np.array_equal(joined.bands, whole.bands)
        assert groups(joined).tolist() == groups(whole).tolist()
        # Only these are compared; another one keeps a group of its own.
        some = groups(joined, among=np.arange(1, 120, 2))
        assert some[::2].tolist() == list(range(0, 120, 2))


GOOD = "A dog runs over the grass, then it stops beside two small cats and barks."


def test_leaks_by_name_and_by_text(tmp_path: Path) -> None:
    tests = write_tests(tmp_path / "tests")
    rows = captions([GOOD, GOOD.replace("dog", "horse"), CAPTIONS["test text"]])
    rows[0] |= {"video": "train/VIDEO7.mp4", "source": "msrvtt"}
    rows[1] |= {"video": "video7"}  # a bare number of a set that is not known: no proof
    report = check_rows("captions", rows, settings=ONE, against=[tests])
    reasons = {row.id: [str(cause) for cause in row.causes] for row in report.flagged}
    assert reasons == {
        "row 0": [f"leak-name: same clip name as test/msrvtt/video7 of msrvtt_qa in {tests}"],
        "row 2": [
            "leak-text: nearly the text of msrvtt_qa, "
            f"{tests / 'video_instruction/test/msrvtt.qa.jsonl'}:1"
        ],
    }
    assert report.doubts[0] == 1
    assert "several sets use" in report.doubts[1][0]
    assert "no test clip that can be read" in report.skipped["leak-sight"]


def test_questions_of_a_test_set_leak_by_text(shared_data: Path) -> None:
    row = next(iter(read_rows("msrvtt_qa", shared_data / "release", "test")))
    asked = {"id": "a", "video": "mine", "question": row["question"], "answer": row["answer"]}
    report = check_rows("qa", [asked], settings=ONE, against=[shared_data / "release"])
    assert report.flags == {"a": ["leak-text"]}


def test_a_folder_without_test_rows_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "video_instruction" / "train" / "qa" / "a.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text(
        '{"id": "a", "video": "v", "conversations": [{"from": "human", "value": "What?"},'
        ' {"from": "gpt", "value": "That."}]}\n'
    )
    with pytest.raises(UserError, match="no test rows to compare with"):
        check_rows("captions", captions([GOOD]), settings=ONE, against=[tmp_path])


def test_a_copy_of_a_test_clip_leaks_by_what_it_shows(shared_data: Path, tmp_path: Path) -> None:
    """Coded again, smaller, under another name; twice, and beside a clip that is no copy."""
    videos = shared_data / "videos"
    media = tmp_path / "media"
    media.mkdir()
    copy_clip(videos / "baby_reading.mp4", media / "holiday.mp4", Change(size=(224, 224), crf=35))
    (media / "broken.mp4").write_bytes(b"no clip")
    tests = tmp_path / "tests"
    file = tests / "video_instruction" / "test" / "webvid.qa.jsonl"
    file.parent.mkdir(parents=True)
    source = shared_data / "release" / "video_instruction" / "test" / "webvid.qa.jsonl"
    lines = source.read_text("utf-8").splitlines()
    file.write_text("".join(f"{line}\n" for line in lines if "baby_reading" in line))
    rows = captions([GOOD, "A horse gallops through snow.", "A man walks to a door and opens it."])
    rows.append(dict(rows[0], id="row 3", caption="A baby turns the pages of a thick old book."))
    rows[0]["video"] = rows[3]["video"] = "holiday"
    rows[1] |= {"video": "other", "video_path": str(videos / "baby_living_room.mp4")}
    rows[2]["video"] = "absent"
    on = GateSettings(only=("leak-sight",), workers=1)
    blind = check_rows("captions", rows, settings=on, against=[tests], media=[media])
    assert "no test clip that can be read" in blind.skipped["leak-sight"]
    shutil.copy(videos / "baby_reading.mp4", tests)  # the test set's clip, in its own folder
    report = check_rows("captions", rows, settings=on, against=[tests], media=[media])
    assert report.flags == {"row 0": ["leak-sight"], "row 3": ["leak-sight"]}
    assert (
        report.flagged[0]
        .causes[0]
        .reason.startswith(f"looks like test/webvid/baby_reading of webvid_qa in {tests}: ")
    )
    clips = report.facts["clips"]
    assert (clips["test_clips"], clips["compared"], clips["without_clip"]) == (1, 2, 1)
    again = check_rows("captions", rows, settings=on, against=[tests], media=[media])
    assert again.flagged == report.flagged
    # Clips written just now may be too new to be kept; the older one is not decoded again.
    assert again.facts["clips"]["fingerprints_kept"] >= 1
    gone = check_rows("captions", [rows[2]], settings=on, against=[tests])
    assert gone.skipped["leak-sight"] == "no clip of the rows is in the media folders"


def test_every_gate_has_a_line_about_it() -> None:
    assert all(about for about in (CAPTION_GATES | QA_GATES).values())
