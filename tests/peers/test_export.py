"""Exports in the trainers' own readers: every row comes out as it was written, its clip with it.

No trainer but TRL installs beside this package, which needs newer `datasets` or `transformers`. Put
its wheel, unpacked, and what it imports on PYTHONPATH; without, a test says what is missing.
LLaMA-Factory 0.9.5, ms-swift 4.6.0; verl 0.9.1 wants `transformers` below 5.11 and decord as well.
"""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from sharegptvideo._io import read_json, read_jsonl
from sharegptvideo.data.export import export_rows
from tests.support import verl_reader
from tests.support.export_release import export_release
from tests.support.tiny_video_models import build

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore::sharegptvideo.data.sources.DataWarning"),
]


def reader(module: str) -> Any:
    """A trainer's module, or a skip that says why there is none."""
    return pytest.importorskip(module, reason=f"{module} is not here", exc_type=ImportError)


def exported(folder: Path, to: str) -> tuple[Path, list[str]]:
    """An export of everything, and the names of its files."""
    release, media = export_release(folder)
    names = [
        name
        for config in ("sft", "preferences", "qa", "captions")
        for name in export_rows(config, to, folder / to, data_dir=release, media=media).files
    ]
    return folder / to, names


def written(file: Path) -> list[dict[str, Any]]:
    return [row for _, row in read_jsonl(file)]


@pytest.mark.parametrize("streaming", [False, True])
def test_llama_factory(tmp_path: Path, *, streaming: bool) -> None:
    loader = reader("llamafactory.data.loader")
    parser, plugin = reader("llamafactory.data.parser"), reader("llamafactory.data.mm_plugin")
    folder, names = exported(tmp_path, "llama-factory")
    info = read_json(folder / "dataset_info.json")
    assert {entry["file_name"] for entry in info.values()} == set(names)
    place = {"dataset_dir": str(folder), "media_dir": str(folder)}
    data = Namespace(
        **place,
        streaming=streaming,
        preprocessing_num_workers=None,
        overwrite_cache=True,
        max_samples=None,
    )
    model = Namespace(cache_dir=str(tmp_path / "cache"), hf_hub_token=None)
    training = Namespace(local_process_index=0, should_log=True, dataloader_num_workers=1)
    for attributes in parser.get_dataset_list(list(info), str(folder)):
        rows = list(loader._load_single_dataset(attributes, model, data, training))
        expected = written(folder / attributes.dataset_name)
        assert len(rows) == len(expected)
        for row, line in zip(rows, expected, strict=True):
            turns = row["_prompt"] + ([] if attributes.ranking else row["_response"])
            said = [turn["value"] for turn in line["conversations"]]
            assert [turn["content"] for turn in turns] == said
            if attributes.ranking:
                sides = [line["chosen"]["value"], line["rejected"]["value"]]
                assert [turn["content"] for turn in row["_response"]] == sides
            media = row["_images"] or [], row["_videos"] or []
            assert media == (line.get("images", []), line.get("videos", []))
            plugin.BasePlugin._validate_messages(None, turns, *media, [])


@pytest.mark.parametrize("streaming", [False, True])
def test_ms_swift(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, streaming: bool) -> None:
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "cache"))
    dataset, inputs = reader("swift.dataset"), reader("swift.template.template_inputs")
    folder, names = exported(tmp_path, "ms-swift")
    for name in names:
        loaded, _ = dataset.load_dataset(
            str(folder / name), split_dataset_ratio=0.0, strict=True, streaming=streaming
        )
        rows, expected = list(loaded), written(folder / name)
        assert len(rows) == len(expected)
        for row, line in zip(rows, expected, strict=True):
            given = inputs.TemplateInputs.from_dict({k: v for k, v in row.items() if v is not None})
            assert given.chosen.messages == line["messages"]
            assert given.chosen.videos == line.get("videos", [])
            pictures = [picture["path"] for picture in given.chosen.images]
            assert pictures == line.get("images", [])
            if "rejected_response" in line:
                worse = {"role": "assistant", "content": line["rejected_response"]}
                assert given.rejected.messages == [*line["messages"][:-1], worse]
                assert given.rejected.videos == line["videos"]


def test_verl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_QWENVL_VIDEO_READER", "decord")
    for module in ("decord", "verl.utils.dataset.multiturn_sft_dataset"):
        reader(module)
    model = build("qwen2_5_vl", tmp_path / "model")
    folder, names = exported(tmp_path, "verl")
    files = [str(folder / name) for name in names]
    script = Path(verl_reader.__file__)
    done = subprocess.run(
        [sys.executable, script, model, *files], capture_output=True, text=True, check=True
    )
    read = json.loads(done.stdout.splitlines()[-1])
    for file in files:
        expected = pq.read_table(file).to_pylist()
        assert len(read[file]) == len(expected)
        for row, line in zip(read[file], expected, strict=True):
            if ".sft." in file:
                said = [turn["content"] for turn in line["messages"] if turn["role"] == "assistant"]
                assert [text for text in row[0].split("<|im_end|>\n") if text] == said
                assert row[1] == ("texts" not in file)
                continue
            content, reward, extra, frames = row
            assert content == [
                {"type": "video", "video": line["videos"][0]["video"]},
                {"type": "text", "text": line["extra_info"]["question"]},
            ]
            assert (reward, extra) == (line["reward_model"], line["extra_info"])
            assert frames >= 3
