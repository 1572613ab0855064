"""Two judges on the same answers: how far they agree, and what one's scores mean to the other.

The second judge may be people: JSONL files with `id` (and `task`, where ids of several tasks meet),
`correct` (true or false) and, if there are any, `score` and `rater`. Of several raters the majority
counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sharegptvideo._io import read_jsonl
from sharegptvideo.errors import UserError
from sharegptvideo.eval.run_dir import read_run
from sharegptvideo.eval.run_record import check_judgement, check_prediction, read_rows
from sharegptvideo.eval.sheet_key import SheetKey, read_sheet_key
from sharegptvideo.eval.statistics import (
    Estimate,
    clustered_mean,
    clustered_share,
    paired_difference,
    plain_mean,
    resampled_weights,
)

__all__ = [
    "agreement_figures",
    "clustered_kappa",
    "compare_judges",
    "fleiss_kappa",
    "kappa",
    "member_agreement",
    "rater_figures",
    "table_kappa",
]

Array = NDArray[np.float64]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Verdicts:
    """One side: its name, whether it is a run, and by (task, id) what it says.

    `predictions` are the answers that it judged, where they are known. `votes` are those of
    several raters, by rater.
    """

    name: str
    judge: Any
    rows: dict[tuple[str, str], Row]
    predictions: dict[tuple[str, str], Row] | None
    votes: dict[tuple[str, str], dict[str, bool]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Answers that both scored, in arrays of n: right or wrong, score (NaN if none), video."""

    correct: tuple[Array, Array]
    score: tuple[Array, Array]
    videos: list[str]


def compare_judges(
    first: Path | str, second: Path | str, *more: Path | str, key: Path | None = None
) -> dict[str, Any]:
    """How far two judges agree on the same predictions.

    Args:
        first: a run folder.
        second: a run folder with the same answers, judged by another judge or another version of
            it, or a JSONL file of people's verdicts.
        more: further files of people's verdicts, read as one with `second`.
        key: of the rating sheet that those files were saved from.

    Returns:
        `first`, `second` (run or file, judge), and per task and for `all` together: `n` answers
        that both scored, `n_clusters`, `accuracy` of each and `shift` (second minus first, paired,
        clustered by video), `agreement` (share of equal verdicts), `kappa` (Cohen's),
        `table` ({"right right": ...}, first judge first), and where both give scores `pearson`,
        `spearman` and `calibration`: for each score of the first judge how often it was given,
        the second's mean score, its share of right verdicts, and `expected_score`, the same mean
        made to rise with the first's score (isotonic regression). Each figure is {value, ci95},
        clustered by video: of shares and means as in `statistics`, of the others from draws of
        whole videos (None where no draw differs). Also what was left out, by cause, and
        `between_raters`: how far several raters agree, see `rater_figures`.

    Raises:
        UserError: not a run, not a file of verdicts, no answer in common, or descriptions alone.
    """
    left, right = _read_run(Path(first)), _read([Path(each) for each in (second, *more)], key)
    right = _with_tasks(right, left)
    shared = [key for key in left.rows if key in right.rows]
    if not shared:
        raise UserError(
            f"{first} and {second} have no question in common; agreement needs two judges on the"
            " same answers (eval judge --predictions RUN/predictions.jsonl), and what a sheet saved"
            " its --key"
        )
    others = [key for key in shared if not _same_answer(key, left, right)]
    if len(others) == len(shared):
        raise UserError(
            f"{first} and {second} judge other answers ({len(others)} differ); agreement needs the"
            " same predictions (eval judge --predictions RUN/predictions.jsonl)"
        )
    excluded = set(others)
    shared = [key for key in shared if key not in excluded]
    tasks = list(dict.fromkeys(task for task, _ in shared))
    groups = {task: [key for key in shared if key[0] == task] for task in tasks}
    scale = _scale(shared, left, right)
    return {
        "first": {"run": left.name, "judge": left.judge},
        "second": {"run": right.name, "judge": right.judge},
        "n_shared": len(shared),
        "n_other_answer": len(others),
        "n_only_first": len(left.rows.keys() - right.rows.keys()),
        "n_only_second": len(right.rows.keys() - left.rows.keys()),
        "n_unscored": {
            "first": sum(left.rows[key]["correct"] is None for key in shared),
            "second": sum(right.rows[key]["correct"] is None for key in shared),
        },
        "scores": scale,
        "between_raters": rater_figures(
            [(right.votes[key], _video(left, key)) for key in shared if key in right.votes]
        ),
        "all": _figures(_pairs(shared, left, right)),
        "tasks": {task: _figures(_pairs(keys, left, right)) for task, keys in groups.items()},
    }


def _read(paths: Sequence[Path], key: Path | None) -> _Verdicts:
    folder = next((path for path in paths if path.is_dir()), None)
    if folder is None:
        return _read_files(paths, None if key is None else read_sheet_key(key, "ratings"))
    if len(paths) > 1 or key is not None:
        raise UserError(
            f"{folder}: a run folder; beside a key or other files only files of people's verdicts"
            " can stand"
        )
    return _read_run(folder)


def _read_run(path: Path) -> _Verdicts:
    run, _ = read_run(path)
    predictions = read_rows(path / "predictions.jsonl", check_prediction)
    judgements = read_rows(path / "judgements.jsonl", check_judgement)
    rows = {
        key: {"correct": row["correct"], "score": row["score"]}
        for key, row in judgements.items()
        if predictions.get(key, {}).get("status") == "ok" and "claims" not in row
    }
    counted = any("claims" in row for row in judgements.values())
    if counted and all(row["correct"] is None for row in rows.values()):
        raise UserError(
            f"{path}: counts the claims of descriptions; agreement is on answers that are right or"
            " wrong"
        )
    return _Verdicts(str(path), run["judge"], rows, predictions)


def _read_files(paths: Sequence[Path], key: SheetKey | None) -> _Verdicts:
    """Read people's verdicts; of several raters' the majority counts, and none of a draw."""
    given: dict[tuple[str, str], dict[str | None, Row]] = {}
    for path in paths:
        for number, row in read_jsonl(path):
            where = f"{path}:{number}"
            place = _place(where, _checked_verdict(where, row), key)
            rater = None if row.get("rater") is None else str(row["rater"])
            votes = given.setdefault(place, {})
            if rater in votes:
                raise UserError(f"{where}: a second verdict on {row['id']!r}; keep one")
            votes[rater] = {"correct": row.get("correct"), "score": row.get("score")}
    if not given:
        raise UserError(f"{', '.join(map(str, paths))}: holds no verdict")
    rows = {place: _majority(list(votes.values())) for place, votes in given.items()}
    named = {
        place: {str(rater): row["correct"] for rater, row in votes.items()
                if row["correct"] is not None}
        for place, votes in given.items()
    }  # fmt: skip
    answers = None
    if key is not None:
        answers = {
            (item.task, item.id): {"prediction": item.answers[0].text, "question": item.question}
            for item in key.items.values()
        }
    return _Verdicts(", ".join(map(str, paths)), "people", rows, answers, named)


def _checked_verdict(where: str, row: Row) -> Row:
    if "choice" in row:
        raise UserError(
            f"{where}: a preference between two answers; leave the run out: eval agreement"
            " PREFERENCES --judge JUDGE"
        )
    if "id" not in row or not isinstance(row.get("correct"), bool | type(None)):
        raise UserError(
            f'{where}: a verdict is {{"id": ..., "correct": true or false, "score": a number or'
            " none at all}"
        )
    score = row.get("score")
    if isinstance(score, bool) or not isinstance(score, int | float | type(None)):
        raise UserError(f"{where}: its score is {score!r}, not a number")
    return row


def _place(where: str, row: Row, key: SheetKey | None) -> tuple[str, str]:
    """Return task ("" where the row names none) and id; by the key, where there is one."""
    if key is None:
        return str(row.get("task") or ""), str(row["id"])
    if str(row["id"]) not in key.items:
        raise UserError(f"{where}: {row['id']!r} is no answer of the key; give that of its sheet")
    item = key.items[str(row["id"])]
    return item.task, item.id


def _majority(rows: Sequence[Row]) -> Row:
    right = sum(row["correct"] is True for row in rows)
    wrong = sum(row["correct"] is False for row in rows)
    scores = [row["score"] for row in rows if row["score"] is not None]
    return {
        "correct": None if right == wrong else right > wrong,
        "score": sum(scores) / len(scores) if scores else None,
    }


def _video(run: _Verdicts, key: tuple[str, str]) -> str:
    assert run.predictions is not None  # the first side is a run
    return str(run.predictions[key]["video"])


def _with_tasks(side: _Verdicts, other: _Verdicts) -> _Verdicts:
    """Verdicts of a file without tasks take the tasks of the run they are compared with."""
    if side.predictions is not None or any(task for task, _ in side.rows):
        return side
    homes: dict[str, list[str]] = {}
    for task, name in other.rows:
        homes.setdefault(name, []).append(task)
    twice = [name for _, name in side.rows if len(homes.get(name, ())) > 1]
    if twice:
        raise UserError(
            f"{side.name}: id {twice[0]!r} is in several tasks of {other.name}; add the task to"
            " each line"
        )
    places = {(_, n): (homes[n][0] if n in homes else "", n) for _, n in side.rows}
    rows = {places[old]: row for old, row in side.rows.items()}
    votes = {places[old]: each for old, each in side.votes.items()}
    return _Verdicts(side.name, side.judge, rows, None, votes)


def _same_answer(key: tuple[str, str], left: _Verdicts, right: _Verdicts) -> bool:
    if left.predictions is None or right.predictions is None:
        return True  # a person's file does not repeat the answers
    a, b = left.predictions[key], right.predictions[key]
    return bool(a["prediction"] == b["prediction"] and a["question"] == b["question"])


def _scale(keys: Sequence[tuple[str, str]], *sides: _Verdicts) -> list[list[float]]:
    """Return the scores that each side gives, in order: the axes of a plot."""
    return [
        sorted({side.rows[k]["score"] for k in keys if side.rows[k]["score"] is not None})
        for side in sides
    ]


def _pairs(keys: Sequence[tuple[str, str]], left: _Verdicts, right: _Verdicts) -> _Pairs:
    known = [
        key
        for key in keys
        if left.rows[key]["correct"] is not None and right.rows[key]["correct"] is not None
    ]
    correct = [np.array([float(s.rows[k]["correct"]) for k in known]) for s in (left, right)]
    score = [
        np.array([np.nan if s.rows[k]["score"] is None else float(s.rows[k]["score"])
                  for k in known])
        for s in (left, right)
    ]  # fmt: skip
    videos = [_video(left, key) for key in known]
    return _Pairs((correct[0], correct[1]), (score[0], score[1]), videos)


def _figures(pairs: _Pairs) -> dict[str, Any]:
    a, b = pairs.correct
    if not len(a):
        return {"n": 0, "n_clusters": 0}
    shift = paired_difference(a, b, pairs.videos)
    words = {0.0: "wrong", 1.0: "right"}
    table = Counter(f"{words[x]} {words[y]}" for x, y in zip(a.tolist(), b.tolist(), strict=True))
    figures: dict[str, Any] = {
        "accuracy": [_figure(clustered_share(x, pairs.videos)) for x in (a, b)],
        "shift": {"value": shift.delta, "ci95": shift.ci95, "p_value": shift.p_value},
        **agreement_figures(a, b, pairs.videos),
        "table": {
            f"{x} {y}": table[f"{x} {y}"] for x in ("right", "wrong") for y in ("right", "wrong")
        },
    }
    both = ~np.isnan(pairs.score[0]) & ~np.isnan(pairs.score[1])
    if both.any():
        figures |= _score_figures(pairs, both)
    return figures


def _score_figures(pairs: _Pairs, both: NDArray[np.bool_]) -> dict[str, Any]:
    from scipy.stats import rankdata

    x, y = pairs.score[0][both], pairs.score[1][both]
    right = pairs.correct[1][both]
    videos = [video for video, kept in zip(pairs.videos, both, strict=True) if kept]
    draw = _Draws(videos)
    return {
        "n_with_scores": len(x),
        "pearson": draw.figure(_pearson_terms(x, y), _pearson),
        # Ranks of the whole sample: a draw changes weights, not what stands above what.
        "spearman": draw.figure(_pearson_terms(rankdata(x), rankdata(y)), _pearson),
        "calibration": _calibration(x, y, right, videos),
    }


def _calibration(x: Array, y: Array, right: Array, videos: Sequence[str]) -> list[dict[str, Any]]:
    from scipy.optimize import isotonic_regression

    levels, counts = np.unique(x, return_counts=True)
    rows: list[dict[str, Any]] = []
    for level, count in zip(levels.tolist(), counts.tolist(), strict=True):
        chosen = x == level
        clusters = [video for video, kept in zip(videos, chosen, strict=True) if kept]
        rows.append(
            {
                "score": level,
                "n": count,
                "mean_score": _figure(clustered_mean(y[chosen], clusters)),
                "share_right": _figure(clustered_share(right[chosen], clusters)),
            }
        )
    means = np.array([row["mean_score"]["value"] for row in rows])
    rising = isotonic_regression(means, weights=counts.astype(float)).x
    for row, expected in zip(rows, rising.tolist(), strict=True):
        row["expected_score"] = expected
    return rows


def _figure(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "se": estimate.se, "ci95": estimate.ci95}


class _Draws:
    """Figures with percentile intervals over draws of whole videos.

    A figure is a function of sums over answers, so that a draw only has to add up videos.
    """

    def __init__(self, videos: Sequence[str]) -> None:
        names = {video: number for number, video in enumerate(dict.fromkeys(videos))}
        self.count = len(names)
        self._codes = np.array([names[video] for video in videos], dtype=np.intp)

    def figure(self, terms: Array, statistic: Callable[[Array], Array]) -> dict[str, Any]:
        """`terms` n×k; `statistic` takes sums m×k to m values, NaN where undefined."""
        sums = np.stack(
            [np.bincount(self._codes, weights=column, minlength=self.count) for column in terms.T],
            axis=1,
        )
        value = _known(statistic(sums.sum(axis=0, keepdims=True))[0])
        if value is None or self.count < 2:
            return {"value": value, "ci95": None}
        drawn = np.concatenate(
            [statistic(weights @ sums) for weights in resampled_weights(self.count)]
        )
        drawn = drawn[~np.isnan(drawn)]
        if not drawn.size or np.ptp(drawn) < 1e-12:  # no draw can differ: no spread was seen
            return {"value": value, "ci95": None}
        return {"value": value, "ci95": np.quantile(drawn, [0.025, 0.975]).tolist()}


def agreement_figures(a: ArrayLike, b: ArrayLike, videos: Sequence[str]) -> dict[str, Any]:
    """How far two judges say the same of n things.

    Args:
        a, b: n verdicts each: numbers or words.
        videos: n clusters.

    Returns:
        `n`, `n_clusters`, `agreement` (share of equal verdicts) and `kappa` (Cohen's), each
        {value, ci95} clustered by video; None where a figure is not defined.
    """
    first, second = np.asarray(a), np.asarray(b)
    agreement = _figure(clustered_share((first == second).astype(float), videos))
    chance_corrected: dict[str, Any] = {"value": None, "ci95": None}
    if len(first):
        cells, kinds = _cells(first, second)
        chance_corrected = _Draws(videos).figure(
            cells, lambda sums: table_kappa(sums.reshape(-1, kinds, kinds))
        )
    return {
        "n": len(first),
        "n_clusters": len(set(videos)),
        "agreement": agreement,
        "kappa": chance_corrected,
    }


def rater_figures(items: Sequence[tuple[Mapping[str, Any], str]]) -> dict[str, Any] | None:
    """How far several raters agree, over any two votes on one thing.

    Args:
        items: votes by rater, and the video.

    Returns:
        `n_items` with two votes or more, `n` pairs of votes, `n_clusters`, `agreement` and
        `kappa` over all pairs, each counted in both orders for kappa (which is then Scott's pi);
        `pairs`: for each two raters `first`, `second` and the same figures, with kappa as Cohen
        has it; those with most in common first. None where no item has two votes.
    """
    pairs: dict[tuple[str, str], list[tuple[Any, Any, str]]] = {}
    for votes, video in items:
        for one, other in combinations(sorted(votes), 2):
            pairs.setdefault((one, other), []).append((votes[one], votes[other], video))
    if not pairs:
        return None
    every = [vote for group in pairs.values() for vote in group]
    turned = [(b, a, video) for a, b, video in every]
    by_size = sorted(pairs.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    return {
        "n_items": sum(len(votes) > 1 for votes, _ in items),
        **_of_pairs(every),
        "kappa": _of_pairs([*every, *turned])["kappa"],
        "pairs": [
            {"first": one, "second": other, **_of_pairs(group)} for (one, other), group in by_size
        ],
    }


def _of_pairs(pairs: Sequence[tuple[Any, Any, str]]) -> dict[str, Any]:
    a, b, videos = zip(*pairs, strict=True)
    return agreement_figures(a, b, videos)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _cells(a: NDArray[Any], b: NDArray[Any]) -> tuple[Array, int]:
    """n×k²: into which cell of a k×k table each two verdicts fall, its rows being those of `a`."""
    kinds, codes = np.unique(np.concatenate([a, b]), return_inverse=True)
    first, second = np.split(codes, 2)
    cells = (len(kinds) * first + second)[:, None] == np.arange(len(kinds) ** 2)
    return cells.astype(np.float64), len(kinds)


def _pearson_terms(x: Array, y: Array) -> Array:
    dx, dy = x - x.mean(), y - y.mean()  # near zero, where squares keep their digits
    return np.stack([np.ones(len(x)), dx, dy, dx * dx, dy * dy, dx * dy], axis=1)


def _pearson(sums: Array) -> Array:
    x, y, xx, yy, xy = (sums[:, column] / sums[:, 0] for column in range(1, 6))
    spread = (xx - x * x) * (yy - y * y)
    # A side without variation leaves rounding errors, not zero.
    return np.asarray((xy - x * y) / np.sqrt(np.where(spread > 1e-12, spread, np.nan)))


def table_kappa(tables: ArrayLike) -> Array:
    """Cohen's kappa: agreement beyond chance (Cohen 1960).

    Args:
        tables: ...×k×k counts or weights, how often the first judge gave the row's verdict and
            the second the column's.

    Returns:
        One value a table, an array of its leading axes; NaN for a table of zeros, and where both
        judges say one and the same thing of everything: chance explains it all.
    """
    counts = np.asarray(tables, dtype=np.float64)
    total = counts.sum(axis=(-2, -1))
    total = np.where(total > 0, total, np.nan)
    seen = np.trace(counts, axis1=-2, axis2=-1) / total
    chance = (counts.sum(axis=-1) * counts.sum(axis=-2)).sum(axis=-1) / total**2
    return np.asarray((seen - chance) / np.where(chance < 1, 1 - chance, np.nan))


def kappa(a: NDArray[Any], b: NDArray[Any]) -> float | None:
    """Cohen's kappa of two arrays of n verdicts; None where `table_kappa` has none."""
    cells, kinds = _cells(a, b)
    return _known(table_kappa(cells.sum(axis=0).reshape(kinds, kinds)).item())


def clustered_kappa(
    a: Sequence[object], b: Sequence[object], clusters: Sequence[object]
) -> Estimate:
    """Cohen's kappa of n pairs of verdicts of any kinds, with its error clustered by `clusters`.

    The standard error is that of a mean of the pairs' parts in kappa (its first derivative): with
    the observed share s of equal verdicts, the share c by chance, and p_k and q_k the shares of
    verdict k with the first and the second judge, the pair (i, j) has the part

        ([i = j] − s) / (1 − c) − (1 − s) (q_i + p_j − 2c) / (1 − c)²

    Where every pair is a cluster this is the formula of Fleiss, Cohen and Everitt (1969,
    Psychological Bulletin 72), times sqrt(n / (n − 1)). The interval is Student's t with G − 1
    degrees of freedom, cut off at −1 and 1; of few clusters near 1 it is a rough one.

    Returns:
        All None where kappa is not defined; `se` and `ci95` None as with `clustered_mean`.

    Raises:
        ValueError: a cluster id is None or empty, or lengths differ.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} verdicts cannot be paired with {len(b)}")
    kinds = {kind: number for number, kind in enumerate(dict.fromkeys([*a, *b]))}
    first = np.array([kinds[verdict] for verdict in a], dtype=np.intp)
    second = np.array([kinds[verdict] for verdict in b], dtype=np.intp)
    table = np.zeros((len(kinds), len(kinds)))
    np.add.at(table, (first, second), 1.0)
    value = _known(table_kappa(table).item())
    if value is None:
        none = clustered_mean(np.zeros(len(first)), clusters)
        return Estimate(None, None, None, none.n, none.n_clusters)
    p, q = table.sum(axis=1) / table.sum(), table.sum(axis=0) / table.sum()
    seen, chance = np.trace(table) / table.sum(), float(p @ q)
    parts = ((first == second) - seen) / (1 - chance)
    parts -= (1 - seen) * (q[first] + p[second] - 2 * chance) / (1 - chance) ** 2
    spread = clustered_mean(value + parts, clusters)  # the parts add up to zero
    ends = None if spread.ci95 is None else (max(-1.0, spread.ci95[0]), min(1.0, spread.ci95[1]))
    return Estimate(value, spread.se, ends, spread.n, spread.n_clusters)


def member_agreement(judgements: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Figures on a panel's members, as {"panel": ...}; empty where no panel has judged.

    Args:
        judgements: rows of judgements.jsonl of one task.

    Returns:
        `members`: each one's name, `n_scored`, `accuracy`, mean `score`, and how often it was
        outvoted; `n_all_scored` answers on which all members have a verdict, and over these
        `unanimous` (share on which all agree) and `fleiss_kappa`; `pairs`: for each two members
        `n` answers both scored, `agreement` (share) and `kappa` (Cohen's). None where a figure
        is not defined: no answers, or all verdicts alike.
    """
    votes = [row for row in judgements if "members" in (row.get("judge") or {})]
    if not votes:
        return {}
    names = [member["name"] for member in votes[0]["judge"]["members"]]
    table = [[_vote(member) for member in row["judge"]["members"]] for row in votes]
    whole = np.array([row for row in table if None not in row], dtype=float)
    whole = whole.reshape(len(whole), len(names))
    rights = whole.sum(axis=1)
    return {
        "panel": {
            "members": [_member(number, name, votes) for number, name in enumerate(names)],
            "n_all_scored": len(whole),
            "unanimous": plain_mean([float(right in (0, len(names))) for right in rights]),
            "fleiss_kappa": fleiss_kappa(np.stack([rights, len(names) - rights], axis=1)),
            "pairs": [_pair(a, b, names, table) for a, b in combinations(range(len(names)), 2)],
        }
    }


def fleiss_kappa(counts: ArrayLike) -> float | None:
    """Fleiss' kappa (1971): agreement of n raters beyond chance.

    Args:
        counts: items × categories, how many raters put the item into the category; every item
            has the same number of raters, at least two.

    Returns:
        None for no items, and where all ratings fall into one category.
    """
    table = np.asarray(counts, dtype=float)
    if not len(table):
        return None
    raters = table[0].sum()
    observed = (((table**2).sum(axis=1) - raters) / (raters * (raters - 1))).mean()
    by_chance = ((table.sum(axis=0) / table.sum()) ** 2).sum()
    return None if by_chance == 1 else float((observed - by_chance) / (1 - by_chance))


def _vote(member: Mapping[str, Any]) -> bool | None:
    return member["correct"] if member["status"] == "scored" else None


def _member(number: int, name: str, votes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    given = [row["judge"]["members"][number] for row in votes]
    scored = [member for member in given if member["status"] == "scored"]
    scores = [member["score"] for member in scored if member["score"] is not None]
    return {
        "name": name,
        "n_scored": len(scored),
        "accuracy": plain_mean([float(member["correct"]) for member in scored]),
        "score": plain_mean(scores),
        "n_outvoted": sum(
            row["status"] == "scored" and vote is not None and vote != row["correct"]
            for row, member in zip(votes, given, strict=True)
            for vote in [_vote(member)]
        ),
    }


def _pair(
    a: int, b: int, names: Sequence[str], table: Sequence[Sequence[bool | None]]
) -> dict[str, Any]:
    both = [(row[a], row[b]) for row in table if row[a] is not None and row[b] is not None]
    first, second = np.array(both, dtype=float).reshape(len(both), 2).T
    return {
        "first": names[a],
        "second": names[b],
        "n": len(both),
        "agreement": plain_mean([float(one == other) for one, other in both]),
        "kappa": kappa(first, second) if both else None,
    }
