"""The lexicon: every example of its file, its rules, and its agreement with labels by hand."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from pydantic import ValidationError

from sharegptvideo.data.stats.lexicon import Lexicon, Matcher, built_in, matcher
from sharegptvideo.data.stats.tokens import tokenise

EXAMPLES = [
    pytest.param(column, sentence, is_there, id=f"{name}-{is_there}-{number}")
    for column, (aspect, name) in enumerate(matcher().names)
    for is_there, sentences in (
        (True, built_in().aspects[aspect].groups[name].examples),
        (False, built_in().aspects[aspect].groups[name].counterexamples),
    )
    for number, sentence in enumerate(sentences)
]


def marks(found: Matcher, *texts: str) -> list[list[int]]:
    counts: list[list[int]] = found.counts(tokenise(texts), texts).tolist()
    return counts


@pytest.mark.parametrize(("column", "sentence", "is_there"), EXAMPLES)
def test_examples_of_the_lexicon(column: int, sentence: str, is_there: bool) -> None:
    assert (marks(matcher(), sentence)[0][column] > 0) == is_there


def small(**group: object) -> Matcher:
    table = {"examples": [], "counterexamples": [], **group}
    return Matcher(
        Lexicon.model_validate(
            {"version": 1, "aspects": {"a": {"about": "x", "groups": {"g": table}}}}
        )
    )


def test_words_prefixes_phrases_and_exceptions() -> None:
    found = small(words="red begin*", phrases=["in front of"], **{"except": ["red carpet"]})
    texts = (
        "Red, reddish and red.",  # two: the prefix rule is begin*'s alone
        "It begins; the beginning, in front of a red wall.",
        "A red carpet, a red hat.",
        "He stands in. Front of house.",
    )
    assert marks(found, *texts) == [[2], [4], [1], [0]]


def test_a_run_does_not_go_from_one_caption_into_the_next() -> None:
    assert marks(small(phrases=["next to"]), "the one next", "to the left") == [[0], [0]]


def test_capitals() -> None:
    found = small(rule="capital", **{"except": ["tv"]})
    texts = (
        "The man sees Paris on TV. Then he leaves for New York.",
        "A Man Walks Down The Long Road",
        'He says: "Stop". A sign reads “No Entry”.',
    )
    assert marks(found, *texts) == [[3], [0], [1]]


def test_digits_count_things_and_are_no_years() -> None:
    found = small(rule="digits")
    assert marks(found, "3 cats, 12 dogs", "in 1999 and 2024", "4k and 3d", "2100 people") == [
        [2], [0], [0], [1],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("group", "cause"),
    [
        ({"word": "red"}, "word"),
        ({}, "neither words nor phrases"),
        ({"words": "Red"}, "lower case"),
        ({"words": "red red"}, "twice"),
        ({"rule": "magic"}, "rule"),
    ],
)
def test_a_lexicon_with_a_mistake_is_refused(group: dict[str, object], cause: str) -> None:
    with pytest.raises(ValidationError, match=cause):
        small(**group)


# What 80 human descriptions of GIFs speak of, labelled by reading, by the number of the question in
# TGIF-QA's test file (drawn at random): (t)ime, (s)pace beyond a bare in, on or at, (a)ttributes,
# (c)ounts, (n)ames. The second 40 were labelled after the lexicon was written, before it was run.
LABELS = """
35179 tsc  22098 ac  45813 a  26330 ac  48576 as  45646 ts  2105 as  14092 a  19100 a
43125 -  31950 s  5180 s  17639 t  4704 s  15539 ac  8273 ac  21464 s  26880 c
309 c  7365 -  27149 a  11350 cs  6887 c  25214 ts  25302 as  39112 cs  46940 a
25235 tsac  36355 -  20305 a  18370 ac  25497 ac  8172 a  24768 a  19988 c  6393 a
235 c  4595 -  12456 a  41308 t  23857 c  36189 a  7641 c  20254 -  34192 a
32248 a  52308 c  43762 a  14375 n  11132 c  51285 a  717 cs  51486 ta  37626 -
7921 cs  36433 a  19826 c  8725 -  37193 a  29761 c  6942 -  22985 sn  20959 c
5140 -  23720 s  11474 a  47418 t  33551 as  10418 -  39256 cst  8993 at  23830 ast
34184 s  40494 ac  27315 a  41331 c  24169 ac  41476 a  43280 at  51396 a
"""


def test_the_lexicon_agrees_with_labels_by_hand(shared_data: Path) -> None:
    """Of 400 decisions (80 captions, five aspects) 389 are the reader's.

    Of 104 marks 97 are right, of 101 labels 97 are found; names in lower case are not.
    """
    file = shared_data / "annotations" / "tgif_qa_Test_frameqa_question.csv"
    with file.open(encoding="utf-8", newline="") as lines:
        texts = {row["vid_id"]: row["description"] for row in csv.DictReader(lines, delimiter="\t")}
    words = LABELS.split()
    labels = dict(zip(words[::2], words[1::2], strict=True))
    read = [[letter in said for letter in "tsacn"] for said in labels.values()]
    aspects = ["time", "space", "attributes", "counts", "names"]
    found = []
    for row in marks(matcher(), *(texts[f"FRAMEQA{key}"] for key in labels)):
        there = {aspect for count, (aspect, _) in zip(row, matcher().names, strict=True) if count}
        found.append([aspect in there for aspect in aspects])
    pairs = [
        pair for one, two in zip(read, found, strict=True) for pair in zip(one, two, strict=True)
    ]
    assert len(pairs) == 400
    assert sum(label == mark for label, mark in pairs) >= 385
    assert sum(label and mark for label, mark in pairs) >= 95
