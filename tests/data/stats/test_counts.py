"""Words, repetition and near-duplicates against values by hand and a second, plain count."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharegptvideo.data.stats.aggregate import Aggregate
from sharegptvideo.data.stats.counts import (
    CaptionBatch,
    count_batch,
    openings,
    phrases,
    repeats,
)
from sharegptvideo.data.stats.duplicates import Shingles, groups, jaccard, shingles
from sharegptvideo.data.stats.lexicon import matcher
from sharegptvideo.data.stats.tokens import tokenise
from tests.support.made_captions import made_rows
from tests.support.plain_study import near_groups, plain_study


def captions(count: int, seed: int = 0, copies: float = 0.1) -> list[str]:
    rows: Any = made_rows(count, seed, copies=copies)
    return [row["conversations"][1]["value"] for row in rows]


def counted(texts: list[str], sources: list[str] | None = None, block: int = 1000) -> Any:
    totals = Aggregate()
    for at in range(0, len(texts), block):
        part = texts[at : at + block]
        names = sources[at : at + block] if sources else ["made"] * len(part)
        videos = [f"v{at + number}" for number in range(len(part))]
        totals.add(count_batch(CaptionBatch(names, videos, part)))
    return totals.figures()


def grouped(texts: list[str]) -> list[int]:
    return groups(Shingles.joined([shingles(tokenise(texts))])).tolist()


def test_words_of_a_sentence() -> None:
    block = tokenise(['A man’s T-shirt says "Go". He has 3.5 apples... then 2', "", "À la carte!"])
    shown = [block.vocabulary[word] for word in block.ids]
    assert shown == [
        "a", "man's", "t-shirt", "says", "go", "he", "has", "3", "5", "apples", "then", "2",
        "à", "la", "carte",
    ]  # fmt: skip
    assert block.lengths.tolist() == [12, 0, 3]
    assert block.sentences.tolist() == [3, 0, 1]
    opening = [word for word, opens in zip(shown, block.opens, strict=True) if opens]
    assert opening == ["a", "go", "he", "then", "à"]
    capital = [word for word, is_one in zip(shown, block.capital, strict=True) if is_one]
    assert capital == ["a", "t-shirt", "go", "he", "à"]


def test_repeats_by_hand() -> None:
    block = tokenise(["a b a b a b", "a b c", "x"])
    again, runs = repeats(block, 2)
    # ab ba ab ba ab: five runs, two of them different; the second caption starts afresh.
    assert (again.tolist(), runs.tolist()) == ([3, 0, 0], [5, 2, 0])


def test_openings_and_phrases_by_hand() -> None:
    block = tokenise(["One two three four five six.", "one TWO three four five", "one two"])
    assert openings(block) == ["one two three four five", "one two three four five", "one two"]
    assert phrases(block) == {"one two three four five": 2}


def test_figures_equal_a_plain_count() -> None:
    texts = captions(400)
    found, plain = counted(texts), plain_study(texts)
    whole, words = found["whole"], found["whole"]["vocabulary"]
    assert whole["length"]["mean"] == pytest.approx(plain["length"])
    assert sum(whole["length"]["histogram"]) == 400
    assert (words["tokens"], words["types"]) == (plain["tokens"], plain["types"])
    assert words["once_only"] == pytest.approx(plain["once_only"])
    assert words["type_token_ratio_1000"] == pytest.approx(plain["ttr_1000"])
    assert {n: types for n, types in words["growth"] if n in plain["types_at"]} == plain["types_at"]
    for n, (share, some) in plain["seq_rep"].items():
        assert whole["repeated"][str(n)]["seq_rep"] == pytest.approx(share)
        assert whole["repeated"][str(n)]["captions"] == pytest.approx(some)
    assert whole["shared_openings"] == pytest.approx(plain["shared_openings"])
    for one in found["openings"]:
        assert plain["openings"][one["opening"]] == one["captions"]
    most = sorted(plain["phrases"].items(), key=lambda pair: (-pair[1], pair[0]))[:20]
    assert [(one["phrase"], one["captions"]) for one in found["phrases"]] == most
    assert whole["near_duplicates"]["exact_share"] == pytest.approx(plain["exact"])


def test_blocks_change_nothing() -> None:
    """Only phrases may be undercounted, since a block leaves out what is rare in it."""
    texts = captions(300)
    sources = [f"s{number % 3}" for number in range(300)]
    one, many = counted(texts, sources), counted(texts, sources, block=100)
    for figures in (one, many):
        del figures["phrases"]
        for part in (figures["whole"], *figures["by_source"].values()):
            # Runs of a thousand words begin anew with each block.
            del part["vocabulary"]["type_token_ratio_1000"]
    assert json.dumps(one) == json.dumps(many)
    assert sum(part["captions"] for part in one["by_source"].values()) == 300


def test_growth_in_a_second_block_goes_on() -> None:
    texts = ["the cat sat", "the dog", "ran"]
    words = counted(texts, block=1)["whole"]["vocabulary"]
    assert words["growth"] == [[6, 5]]
    assert words["top_words"] == [["cat", 1], ["dog", 1], ["ran", 1], ["sat", 1]]


def test_new_words_per_thousand_by_hand() -> None:
    fresh = [f"n{number}" for number in range(100)]
    texts = [" ".join(["old"] * 500), " ".join(fresh + ["old"] * 400)]
    words = counted(texts)["whole"]["vocabulary"]
    # 100 new ones among words 501 to 1,000: 200 in a thousand.
    assert words["new_per_1000"] == {"1000": 200.0}
    assert words["type_token_ratio_1000"] == pytest.approx(101 / 1000)


def test_jaccard_by_hand() -> None:
    values = np.array([1, 2, 3, 2, 3, 4, 5, 9], np.uint32)
    sizes = np.array([3, 4, 1])
    left, right = np.array([0, 0, 1]), np.array([1, 2, 1])
    assert jaccard(values, np.cumsum(sizes), sizes, left, right).tolist() == [2 / 5, 0, 1]


@pytest.mark.parametrize("seed", [0, 1])
def test_near_duplicates_are_those_of_all_pairs(seed: int) -> None:
    texts = captions(150, seed, copies=0.4)
    wanted = near_groups(texts)
    assert sum(count for count in Counter(wanted).values() if count > 1) > 40
    assert grouped(texts) == wanted


def test_near_duplicates_around_the_threshold() -> None:
    """Pairs of 100 words with 4 to 14 in a row replaced: Jaccard 0.88 to 0.72 and 0.69 to 0.64."""
    texts = []
    for pair, changed in enumerate([4, 6, 8, 10, 12, 14, 15, 18] * 20):
        words = [f"p{pair}w{number}" for number in range(100)]
        texts += [" ".join(words), " ".join([f"x{n}" for n in range(changed)] + words[changed:])]
    wanted = near_groups(texts)
    assert 0 < sum(wanted[at] != wanted[at + 1] for at in range(0, len(texts), 2)) < 100
    assert grouped(texts) == wanted


def test_many_copies_are_one_group_and_moulds_are_none() -> None:
    rng = np.random.default_rng(0)
    mould = " ".join(f"m{number}" for number in range(40))
    filled = [
        f"{mould} " + " ".join(f"f{n}" for n in rng.integers(0, 9999, 30)) for _ in range(300)
    ]
    copies = ["A cat sleeps on the warm roof."] * 200
    found = grouped([*filled[:150], *copies, *filled[150:]])
    assert found[150:350] == [150] * 200
    assert len(set(found)) == 301


def test_short_captions() -> None:
    texts = ["Hi there.", "hi there", "Hi", "there hi", "...", "!?", "a b c"]
    assert grouped(texts) == [0, 0, 2, 3, 4, 4, 6]


def test_groups_are_reported_with_size_and_members() -> None:
    texts = ["the same words stand here", "another one", "The same words stand here!"]
    found = counted(texts, ["b", "b", "a"])
    assert found["groups"] == [
        {"captions": 2, "videos": 2, "sources": ["a", "b"], "members": [0, 2]}
    ]
    twins = found["whole"]["near_duplicates"]
    assert twins == {"share": 2 / 3, "removable": 1, "exact_share": 2 / 3}
    # The other half of the pair is in another source: nothing to remove within one.
    assert found["by_source"]["a"]["near_duplicates"]["removable"] == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=60), min_size=1, max_size=8))
def test_any_text_can_be_counted(texts: list[str]) -> None:
    figures = counted(texts)
    whole = figures["whole"]
    json.dumps(figures, allow_nan=False)
    assert whole["captions"] == len(texts)
    assert 0 <= whole["near_duplicates"]["share"] <= 1
    assert all(0 <= one["share"] <= 1 for one in whole["aspects"].values())
    assert sum(whole["length"]["histogram"]) == len(texts)


def test_marks_of_the_release(shared_data: Path) -> None:
    """Hand count over the five captions: which speak of counts, and none of them of names."""
    file = shared_data / "release/video_instruction/train/pretrain/video_caption_pretrain.jsonl"
    texts = [
        json.loads(line)["conversations"][1]["value"] for line in file.read_text().splitlines()
    ]
    marks = matcher().counts(tokenise(texts), texts)

    def speaks_of(aspect: str) -> list[bool]:
        held = [place for place, (name, _) in enumerate(matcher().names) if name == aspect]
        return [bool(one) for one in marks[:, held].any(axis=1)]

    # "a group of", "both hands", "down from five"; "a second woman" counts nothing.
    assert speaks_of("counts") == [True, True, True, False, False]
    assert speaks_of("names") == [False] * 5
