"""Preference pairs from scored answers, by the paper's rule (arXiv 2404.01258, section 3.3)."""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sharegptvideo import __version__
from sharegptvideo._io import LatestRows, os_errors, sha256_file, write_json, write_jsonl
from sharegptvideo._staging import replacing_files
from sharegptvideo.build.outputs import FILES, write_rows
from sharegptvideo.build.stage import Row, input_hash, stage_file
from sharegptvideo.errors import UserError

__all__ = ["CAUSES", "PAIRS_FILE", "PairsReport", "make_pairs", "pair_of"]

PAIRS_FILE = FILES["preferences"]
"""Where the pairs lie under the output folder: as in the release, so `load_dataset` reads them."""

CAUSES = ("all_acceptable", "all_unacceptable", "too_few_scored", "no_candidates")
"""Why an item gives no pair. Too few scored: under two different answers with a score."""


@dataclass(slots=True)
class PairsReport:
    """What `make_pairs` did.

    `histogram` counts answers by score, bin "3" holding 3 <= score < 4, over all answers drawn
    (an answer drawn twice counts twice), as do the means. `duplicates_removed` counts draws that
    repeat another answer of their item but for case, punctuation and spaces; `empty_removed`
    those without a word.
    """

    seed: int
    threshold: float
    n_items: int = 0
    n_pairs: int = 0
    without_pair: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CAUSES, 0))
    n_answers: int = 0
    n_unscored: int = 0
    duplicates_removed: int = 0
    empty_removed: int = 0
    histogram: dict[str, int] = field(default_factory=dict)
    mean_score: float | None = None
    share_acceptable: float | None = None
    mean_chosen: float | None = None
    mean_rejected: float | None = None
    rewards_sha256: str = ""

    def as_dict(self) -> Row:
        """Return the report as plain JSON values."""
        return asdict(self)


def make_pairs(rewards: Path, out: Path, *, seed: int = 0, threshold: float = 3.0) -> PairsReport:
    """Make one preference pair of each item that has both kinds of answer.

    An answer with score >= `threshold` is acceptable, any other unacceptable; one of each, drawn at
    random, make the pair. The draw depends on `seed` and the item's id only, so that more items,
    or fewer, leave the other pairs as they are.

    Writes under `out`, all or none: the pairs as `write_dataset` does, in `PAIRS_FILE` and as
    Parquet, with `made` (parents, version, seed and threshold) beside the columns of the config
    `preferences`; `preferences.json` (the report) and `items_without_pair.jsonl` (id, video,
    cause).

    Args:
        rewards: the file that `score_candidates` wrote, or its folder.
        out: the folder to write.
        seed: of the draw.
        threshold: the lowest acceptable score.

    Raises:
        UserError: no such file, a broken line, no item at all, or `out` cannot be written.
    """
    file = stage_file(rewards, "rewards.jsonl")
    items = {str(row["id"]): row for row in LatestRows(file)}
    if not items:
        raise UserError(f"{file}: no scored items; run `sharegptvideo build rewards` first")
    for item in items.values():
        _check(file, item)
    report = PairsReport(seed=seed, threshold=threshold, n_items=len(items))
    pairs: list[Row] = []
    without: list[Row] = []
    for item in items.values():
        pair = pair_of(item, seed=seed, threshold=threshold)
        if isinstance(pair, str):
            report.without_pair[pair] += 1
            without.append({"id": item["id"], "video": item["video"], "cause": pair})
        else:
            pairs.append(pair | {"made": _made(item, seed, threshold)})
    _count(report, list(items.values()))
    report.n_pairs = len(pairs)
    report.mean_chosen = _mean([float(pair["chosen_score"]) for pair in pairs])
    report.mean_rejected = _mean([float(pair["rejected_score"]) for pair in pairs])
    report.rewards_sha256 = sha256_file(file)
    with (
        os_errors(out, "free some space or give another --out"),
        replacing_files(out, obsolete=["preferences/*.parquet", str(PAIRS_FILE)]) as new,
    ):
        write_json(new / "preferences.json", report.as_dict())  # which the dataset's record has
        write_rows("preferences", pairs, out, new, flags={})
        write_jsonl(new / "items_without_pair.jsonl", without)
    return report


VERSION = 1
"""Raise it when the same scores make other pairs."""


def _made(item: Row, seed: int, threshold: float) -> Row:
    """Return where a pair comes from: no model made it, so it costs nothing."""
    sampling = dict.fromkeys(("temperature", "top_p", "max_new_tokens")) | {"seed": seed}
    return {
        "stage": "preferences",
        "version": VERSION,
        "parents": [item["id"]],
        "input": input_hash(item),
        "model": None,
        "answered_by": [],
        "prompt_version": None,
        "prompt_hash": None,
        "sampling": sampling,
        "frame_indices": None,
        "tokens": {"prompt": 0, "cached": None, "completion": 0},
        "dollars": None,
        "requests": 0,
        "attempts": 0,
        "engine": "local",
        "package_version": __version__,
        "threshold": threshold,
    }


_COLUMNS = ("video", "source", "question", "answer", "caption", "answers")


def _check(file: Path, item: Row) -> None:
    """Raise an error for an item that `build rewards` does not write."""
    where = f"{file}: item {item['id']}"
    absent = [name for name in _COLUMNS if name not in item]
    if absent:
        raise UserError(
            f"{where}: no {', '.join(absent)}; make it with `sharegptvideo build rewards`"
        )
    for answer in item["answers"]:
        score, copies = answer.get("score"), answer.get("copies")
        if not isinstance(answer.get("text"), str) or type(copies) is not int or copies < 1:
            raise UserError(f"{where}: an answer without its text or its copies, at least 1")
        is_number = type(score) in (int, float) and math.isfinite(score)
        if score is not None and not is_number:
            raise UserError(f"{where}: score must be a number or null, got {score!r:.40}")


def pair_of(item: Row, *, seed: int, threshold: float = 3.0) -> Row | str:
    """Return the pair of one scored item, or the cause (one of `CAUSES`) why it has none.

    Of answers that are the same but for case, punctuation and spaces, the first scored one stands
    for all; answers without a word are left out.
    """
    if not item["answers"]:
        return "no_candidates"
    distinct: dict[str, Row] = {}
    for answer in item["answers"]:
        text = _same_text(answer["text"])
        if text and answer["score"] is not None:
            distinct.setdefault(text, answer)
    if len(distinct) < 2:
        return "too_few_scored"
    acceptable = [answer for answer in distinct.values() if answer["score"] >= threshold]
    unacceptable = [answer for answer in distinct.values() if answer["score"] < threshold]
    if not unacceptable:
        return "all_acceptable"
    if not acceptable:
        return "all_unacceptable"
    # A string seeds through SHA-512, the same on every machine and version of Python.
    draw = random.Random(f"{seed}/{item['id']}")
    chosen, rejected = draw.choice(acceptable), draw.choice(unacceptable)
    return {
        "id": item["id"],
        "video": item["video"],
        "source": item["source"],
        "prompt": item["question"],
        "chosen": chosen["text"],
        "rejected": rejected["text"],
        "chosen_score": float(chosen["score"]),
        "rejected_score": float(rejected["score"]),
        "answer": item["answer"],
        "caption": item["caption"],
    }


def _same_text(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _count(report: PairsReport, items: list[Row]) -> None:
    scores: list[float] = []
    for item in items:
        seen: set[str] = set()
        for answer in item["answers"]:
            copies = int(answer["copies"])
            report.n_answers += copies
            text = _same_text(answer["text"])
            if not text:
                report.empty_removed += copies
            else:
                report.duplicates_removed += copies - (text not in seen)
                seen.add(text)
            if answer["score"] is None:
                report.n_unscored += copies
            else:
                scores += [float(answer["score"])] * copies
    bins = Counter(math.floor(score) for score in scores)
    low, high = min([1, *bins]), max([5, *bins])
    report.histogram = {str(score): bins[score] for score in range(low, high + 1)}
    report.mean_score = _mean(scores)
    report.share_acceptable = _mean([float(score >= report.threshold) for score in scores])


def _mean(values: list[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
