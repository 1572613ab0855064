"""The registered name works whichever of the two packages is imported first."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo import read_rows

Python = Callable[..., str]
Row = Callable[..., dict[str, Any]]
Write = Callable[..., Path]

LOAD = """
import json
stream = datasets.load_dataset("sharegptvideo", "qa", data_dir={0!r}, streaming=True)
table = datasets.load_dataset("sharegptvideo", "qa", data_dir={0!r}, split="train")
rows = [list(stream["train"]), list(table)]
print(json.dumps([rows, sorted(stream), str(table.features)]))
"""


@pytest.mark.parametrize(
    "imports",
    [
        "import datasets, sharegptvideo",
        "import sharegptvideo, datasets",
        "import sharegptvideo; from datasets import load_dataset; import datasets",
    ],
)
def test_either_order(shared_data: Path, python: Python, imports: str) -> None:
    source = shared_data / "release"
    (stream, table), splits, reported = json.loads(python(imports + LOAD.format(str(source))))
    assert stream == table == list(read_rows("qa", source))
    assert splits == ["train", "validation"]
    assert "question" in reported


def test_import_is_light(python: Python) -> None:
    code = """
import sys
import sharegptvideo
heavy = {"torch", "datasets", "numpy", "pyarrow", "huggingface_hub", "av"} & set(sys.modules)
print(heavy)
"""
    assert python(code) == "set()\n"


def test_options_pass_through_and_files_beside_the_release_are_not_listed(
    release: Path, write: Write, qa_row: Row, python: Python
) -> None:
    write("train/qa/a.jsonl", qa_row(1), "{}")
    media = release / "train_300k" / "clip_1"
    media.mkdir(parents=True)
    (media / "c01_0001.jpeg").write_bytes(b"x")
    # A folder that may not be entered would stop a listing of everything below the release.
    loop = release / "loop"
    loop.symlink_to(release)
    code = f"""
import sharegptvideo, datasets, warnings
from datasets import data_files
def refuse(*args, **kwargs):
    raise AssertionError("listed")
data_files.resolve_pattern = refuse
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    table = datasets.load_dataset(
        "sharegptvideo", "qa", data_dir={str(release)!r}, split="train",
        media={str(release)!r}, on_error="skip",
    )
print(table["video_path"][0].endswith("train_300k/clip_1"))
print([str(w.message).split(":")[0] for w in caught if w.category.__name__ == "DataWarning"])
"""
    assert python(code) == "True\n['1 row skipped, breaking the schema']\n"


def test_mistakes_are_told(release: Path, python: Python) -> None:
    code = f"""
import sharegptvideo, datasets
from sharegptvideo.errors import UserError
for name, files in (("qas", None), (None, "x.jsonl"), (None, None)):
    try:
        datasets.load_dataset(
            "sharegptvideo", name, data_dir={str(release)!r}, data_files=files
        )
    except UserError as error:
        print(error)
print(datasets.get_dataset_config_names("sharegptvideo")[:2])
print(datasets.get_dataset_default_config_name("sharegptvideo"))
"""
    first, second, third, names, default = python(code).splitlines()
    assert first.startswith("unknown dataset 'qas'; did you mean qa?")
    assert second.startswith("data_files= is not taken; data_dir= is the folder")
    assert "for config 'captions'" in third
    assert default == "captions"
    assert names == "['captions', 'qa']"


def test_other_names_are_listed_as_before(tmp_path: Path, python: Python) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "train.jsonl").write_text('{"a": 1}\n')
    code = """
import sharegptvideo, datasets
print(datasets.load_dataset("json", data_dir="rows", split="train")["a"][:])
"""
    assert python(code) == "[1]\n"


@pytest.mark.parametrize("order", ["import datasets, sharegptvideo", "import sharegptvideo"])
def test_a_folder_of_the_users_called_datasets_does_no_harm(
    tmp_path: Path, python: Python, order: str
) -> None:
    folder = tmp_path / "datasets"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "load.py").write_text("MINE = 1\n")
    code = f"{order}\nimport datasets.load\nprint(datasets.load.MINE)"
    assert python(code, cwd=tmp_path) == "1\n"
    (folder / "load.py").unlink()
    assert python(f"{order}\nimport datasets\nprint(1)", cwd=tmp_path) == "1\n"
