"""Several clips and images in one row of a batch, up to a budget of tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sharegptvideo.errors import UserError
from sharegptvideo.training.examples import ExampleWriter
from sharegptvideo.training.mix import Visual, visuals_of

if TYPE_CHECKING:
    from datasets import Dataset

    from sharegptvideo.training.recipes import LengthLimit, SftRecipe

__all__ = ["flat_length", "pack", "packed"]

Row = dict[str, Any]


Positions = Callable[[Visual | None], int]


def packed(dataset: Dataset, recipe: SftRecipe, positions: Positions) -> Dataset:
    """`dataset`, or packs of its rows where `sharing.pack_tokens` says so; see `pack`."""
    budget = recipe.sharing.pack_tokens
    if budget is None:
        return dataset
    return pack(
        dataset,
        budget,
        positions=positions,
        limit=recipe.optimisation.length_limit,
    )


def pack(dataset: Dataset, budget: int, *, positions: Positions, limit: LengthLimit) -> Dataset:
    """Rows `{video_path, image_path, ids, assistant_mask}` as packs `{rows, length}`.

    A pack has up to `budget` tokens. The rows of a clip or image stay together where they fit,
    since its tokens then pass once. Packs are filled from the longest of them down, each into the
    first pack that has room (first-fit decreasing), so the same rows always make the same packs;
    their order is drawn by epoch.

    Args:
        positions: of a clip or image; 1 for None.
        limit: how long a row may be; longer ones are cut.

    Raises:
        UserError: one row alone is longer than the budget.
    """
    numbers: dict[Visual | int, list[int]] = {}
    for number, visual in enumerate(visuals_of(dataset)):
        numbers.setdefault(number if visual is None else visual, []).append(number)
    units: list[tuple[int, list[int]]] = []
    for key, some in numbers.items():
        rows = _rows(dataset, some)
        clip = positions(key if isinstance(key, Visual) else None)
        for length, count in _units(rows, budget, clip, limit.positions(clip)):
            units.append((length, some[:count]))
            some = some[count:]
    longest = max(length for length, _ in units)
    if longest > budget:
        raise UserError(
            f"sharing.pack_tokens {budget}: a clip or image with one conversation takes {longest} "
            f"tokens; give at least so many"
        )
    units.sort(key=lambda unit: -unit[0])
    packs: list[tuple[int, list[int]]] = []
    for length, some in units:
        for number, (taken, inside) in enumerate(packs):
            if taken + length <= budget:
                packs[number] = (taken + length, inside + some)
                break
        else:
            packs.append((length, some))
    row = pa.struct(list(dataset.features.arrow_schema))
    with ExampleWriter(None, {"rows": pa.list_(row), "length": pa.int64()}) as writer:
        for length, some in packs:
            writer.add({"rows": _rows(dataset, some), "length": length})
        return writer.dataset()


def _rows(dataset: Dataset, numbers: list[int]) -> list[Row]:
    columns = dataset[numbers]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def flat_length(rows: Sequence[Row], video_tokens: int, max_length: int) -> int:
    """Tokens of rows about one clip or image when what they begin with is there once."""
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
) -> Iterator[tuple[int, int]]:
    """Tokens and number of a clip's rows, in several parts where they are too many for one pack."""
    part: list[Row] = []
    for row in rows:
        if part and flat_length([*part, row], video_tokens, max_length) > budget:
            yield flat_length(part, video_tokens, max_length), len(part)
            part = []
        part.append(row)
    yield flat_length(part, video_tokens, max_length), len(part)
