"""Several clips in one row of a batch, up to a budget of tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sharegptvideo.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

    from sharegptvideo.training.recipes import SftRecipe

__all__ = ["flat_length", "pack", "packed"]

Row = dict[str, Any]


def packed(dataset: Dataset, recipe: SftRecipe, video_tokens: Callable[[str], int]) -> Dataset:
    """`dataset`, or packs of its rows where `sharing.pack_tokens` says so; see `pack`."""
    budget = recipe.sharing.pack_tokens
    if budget is None:
        return dataset
    return pack(
        dataset,
        budget,
        video_tokens=video_tokens,
        max_length=recipe.optimisation.max_length,
    )


def pack(
    dataset: Dataset, budget: int, *, video_tokens: Callable[[str], int], max_length: int
) -> Dataset:
    """Rows `{video_path, ids, assistant_mask}` as packs `{rows, length}` of up to `budget` tokens.

    The rows of a clip stay together where they fit, since its tokens then pass once. Packs are
    filled from the longest clips down, each clip into the first pack that has room (first-fit
    decreasing), so the same rows always make the same packs; their order is drawn by epoch.

    Args:
        video_tokens: positions of the clip at a path.
        max_length: positions that a row is cut to.

    Raises:
        UserError: one row alone is longer than the budget.
    """
    from datasets import Dataset

    clips: dict[str, list[Row]] = {}
    for row in dataset:
        clips.setdefault(row["video_path"], []).append(row)
    units = []
    for path, rows in clips.items():
        units += _units(rows, budget, video_tokens(path), max_length)
    longest = max(length for length, _ in units)
    if longest > budget:
        raise UserError(
            f"sharing.pack_tokens {budget}: a clip with one conversation takes {longest} tokens; "
            f"give at least so many"
        )
    units.sort(key=lambda unit: -unit[0])
    packs: list[tuple[int, list[Row]]] = []
    for length, rows in units:
        for number, (taken, inside) in enumerate(packs):
            if taken + length <= budget:
                packs[number] = (taken + length, inside + rows)
                break
        else:
            packs.append((length, rows))
    return Dataset.from_list([{"rows": rows, "length": length} for length, rows in packs])


def flat_length(rows: Sequence[Row], video_tokens: int, max_length: int) -> int:
    """Tokens of rows about one clip when what they begin with is there once."""
    ids = [row["ids"] for row in rows]
    limit = min(row["assistant_mask"].index(True) - 1 for row in rows)
    common = 0
    while common < limit and all(one[common] == ids[0][common] for one in ids):
        common += 1
    # The clip is one token of `ids`; it stands before anything that differs.
    begin = common + video_tokens - 1
    return begin + sum(min(len(one) + video_tokens - 1, max_length) - begin for one in ids)


def _units(
    rows: list[Row], budget: int, video_tokens: int, max_length: int
) -> list[tuple[int, list[Row]]]:
    """A clip's rows, split where they are too many for one pack: (tokens, rows)."""
    units: list[tuple[int, list[Row]]] = []
    part: list[Row] = []
    for row in rows:
        if part and flat_length([*part, row], video_tokens, max_length) > budget:
            units.append((flat_length(part, video_tokens, max_length), part))
            part = []
        part.append(row)
    units.append((flat_length(part, video_tokens, max_length), part))
    return units
