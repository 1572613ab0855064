"""`data` of a recipe: which rows are trained on."""

from __future__ import annotations

import pickle
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sharegptvideo.data.load import load_dataset, read_rows
from sharegptvideo.data.sources import DataWarning
from sharegptvideo.errors import UserError
from sharegptvideo.training import SftRecipe
from sharegptvideo.training.examples import DataReport, ExampleWriter, sft_dataset
from sharegptvideo.training.families import Family, open_family
from sharegptvideo.training.recipes import LengthLimit

Change = Callable[..., Any]


@pytest.fixture
def several(release: Path, tmp_path: Path) -> Path:
    """Eight conversations in one file, four of other ids and texts in a second."""
    root = tmp_path / "several"
    shutil.copytree(release / "video_instruction", root / "video_instruction")
    first = root / "video_instruction" / "train" / "sft" / "video_240k_caption_15k.jsonl"
    rows = [line.replace('"clip', '"more_clip', 1) for line in first.read_text().splitlines()[::2]]
    first.with_name("video_caption_300k.jsonl").write_text("\n".join(rows) + "\n")
    return root


def rows_of(recipe: Any) -> tuple[list[dict[str, Any]], DataReport]:
    family: Family = open_family(recipe, weights=False)
    rows, report = sft_dataset(recipe.data, family, limit=LengthLimit(128))
    return list(rows), report


def test_files_takes_some_of_a_config(sft_recipe: SftRecipe, change: Change, several: Path) -> None:
    def count(files: str | None) -> int:
        return len(rows_of(change(sft_recipe, data={"data_dir": str(several), "files": files}))[0])

    assert count(None) == 12
    assert count("video_caption_300k.jsonl") == 4
    assert count("video_240k_caption_15k.jsonl") == 8
    assert count("*_caption_*.jsonl") == 12
    assert count("video_caption_???k.jsonl") == 4


def test_files_that_are_not_there(sft_recipe: SftRecipe, change: Change, several: Path) -> None:
    recipe = change(sft_recipe, data={"data_dir": str(several), "files": "captions.jsonl"})
    with pytest.raises(UserError) as caught:
        rows_of(recipe)
    assert str(caught.value) == (
        f"{several}: sft has no file 'captions.jsonl' "
        "(there: video_240k_caption_15k.jsonl, video_caption_300k.jsonl)"
    )


def test_files_are_the_releases(several: Path, tmp_path: Path) -> None:
    """Parquet has lost which file a row came from, so asking for one is an error."""
    folder = tmp_path / "parquet"
    (folder / "sft").mkdir(parents=True)
    load_dataset("sft", data_dir=several).to_parquet(
        folder / "sft" / "train-00000-of-00001.parquet"
    )
    assert len(list(read_rows("sft", folder))) == 12
    with pytest.raises(UserError, match=r"takes files of the release; .* holds Parquet"):
        next(iter(read_rows("sft", folder, files="video_caption_300k.jsonl")))


def test_limit_counts_rows_as_they_are_read(
    sft_recipe: SftRecipe, change: Change, release: Path, tmp_path: Path
) -> None:
    """Of the first three two are about the clip that is not there: one is left."""
    rows, _ = rows_of(change(sft_recipe, data={"limit": 3}))
    assert len(rows) == 3
    media = tmp_path / "media"
    shutil.copytree(release / "videos", media)
    (media / "clip_red.mp4").unlink()
    data = {"limit": 3, "media": str(media), "missing_media": "skip"}
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)  # the report says it, and it alone
        rows, report = rows_of(change(sft_recipe, data=data))
    assert (len(rows), report.used, len(report.missing)) == (1, 1, 2)


def test_splits_share_no_row(sft_recipe: SftRecipe, change: Change, several: Path) -> None:
    """`splits.json` puts a clip's rows on one side; both sides together are all."""
    (several / "splits.json").write_text('{"validation": ["clip_red"]}')

    def ids(split: str) -> set[str]:
        recipe = change(sft_recipe, data={"data_dir": str(several), "split": split})
        return {row["video_path"] + str(row["ids"]) for row in rows_of(recipe)[0]}

    train, validation = ids("train"), ids("validation")
    assert all("clip_red" in row for row in validation)
    assert not train & validation
    assert train | validation == ids("train+validation")


def test_the_hash_of_the_data_is_of_the_rows_used(
    sft_recipe: SftRecipe, change: Change, several: Path
) -> None:
    def digest(**data: Any) -> str:
        return rows_of(change(sft_recipe, data={"data_dir": str(several), **data}))[1].sha256

    whole = digest()
    assert digest() == whole
    assert digest(limit=11) != whole
    assert digest(files="video_caption_300k.jsonl") != whole


def test_examples_are_mapped_from_a_file(sft_recipe: SftRecipe, tmp_path: Path) -> None:
    family = open_family(sft_recipe, weights=False)
    expected, counted = sft_dataset(sft_recipe.data, family, limit=LengthLimit(128))
    file = tmp_path / "rows" / "examples.arrow"
    rows, report = sft_dataset(sft_recipe.data, family, limit=LengthLimit(128), file=file)
    assert rows.cache_files == [{"filename": str(file)}]
    assert (list(rows), rows.features) == (list(expected), expected.features)
    assert (report, report.used) == (counted, len(expected))
    assert list(pickle.loads(pickle.dumps(rows))) == list(expected)


def test_an_error_leaves_no_file_of_examples(tmp_path: Path) -> None:
    columns = {"number": pa.int64()}
    file = tmp_path / "rows" / "examples.arrow"
    with ExampleWriter(file, columns) as writer:
        for number in range(2500):
            writer.add({"number": number})
        rows = writer.dataset()
    assert rows["number"][:] == list(range(2500))

    def fail(count: int) -> None:
        with ExampleWriter(tmp_path / "new" / "e", columns) as writer:
            for number in range(count):
                writer.add({"number": number})
            raise UserError("no clip")

    for count in (3, 2500):
        with pytest.raises(UserError, match="no clip"):
            fail(count)
        assert not (tmp_path / "new").exists()
