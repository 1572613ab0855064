"""The tree of a published repository: what the Hub and `datasets` read, what people read."""

from __future__ import annotations

import io
import json
import re
import shutil
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import av
import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from datasets.utils.metadata import MetadataConfigs

from sharegptvideo import read_rows
from sharegptvideo._text import plural
from sharegptvideo.data.publish import publish as publish_any
from sharegptvideo.data.publish.cards import changelog_entries, with_entry
from sharegptvideo.data.schema import features
from sharegptvideo.data.sources import held_configs
from sharegptvideo.errors import UserError
from sharegptvideo.synthetic import Sizes, build_world
from tests.support.fresh_python import run_python

# The small release has a few clips on both sides.
publish = partial(publish_any, cards="package", allow=["leak-name"])

pytestmark = pytest.mark.filterwarnings("ignore::sharegptvideo.data.sources.DataWarning")


@pytest.fixture(scope="module")
def tree(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tree") / "out"
    publish(
        shared_data / "release",
        "tester/mine",
        dry_run=out,
        changelog="All of it.",
        tag="v1",
    )
    return out


def block(page: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(page.read_text("utf-8").split("---\n")[1])
    return found


def test_rows_are_the_release_s(tree: Path, shared_data: Path) -> None:
    release = shared_data / "release"
    assert held_configs(tree) == held_configs(release)
    for config in held_configs(tree):
        split = config.splits[0]
        assert list(read_rows(config.name, tree, split)) == list(
            read_rows(config.name, release, split)
        )


def test_block_says_what_the_files_hold(tree: Path) -> None:
    head = block(tree / "README.md")
    infos = {info["config_name"]: info for info in head["dataset_info"]}
    assert [config["config_name"] for config in head["configs"]] == list(infos)
    assert [c["config_name"] for c in head["configs"] if c.get("default")] == ["captions"]
    for config in head["configs"]:
        info = infos[config["config_name"]]
        made = datasets.Features._from_yaml_list(info["features"])
        assert made == features(config["config_name"])
        size = rows = 0
        for files, split in zip(config["data_files"], info["splits"], strict=True):
            assert files["split"] == split["name"]
            paths = list(tree.glob(files["path"]))
            assert paths
            size += sum(path.stat().st_size for path in paths)
            rows = sum(pq.ParquetFile(path).metadata.num_rows for path in paths)
            assert split["num_examples"] == rows
        assert info["download_size"] == size
    # The library's own reading of the block finds nothing to complain of.
    card = datasets.utils.metadata.DatasetCardData(**head)
    assert set(MetadataConfigs.from_dataset_card_data(card)) == set(infos)


def test_croissant_says_what_the_files_hold(tree: Path) -> None:
    """That readers of the format take it is held by tests/peers."""
    record = json.loads((tree / "croissant.json").read_text("utf-8"))
    needed = ("@context", "@type", "conformsTo", "name", "description", "license", "url", "creator")
    assert all(record[key] for key in needed)
    assert record["url"].endswith("/tester/mine")
    assert record["version"] == "v1"
    assert record["citeAs"].startswith("@inproceedings{zhang2025directpreference,")
    sets = {one["@id"]: one for one in record["recordSet"]}
    files = {one["@id"]: one for one in record["distribution"]}
    configs = held_configs(tree)
    assert sets.keys() == {name for c in configs for name in (c.name, f"{c.name}-splits")}
    for config in configs:
        fields = {field["@id"]: field for field in sets[config.name]["field"]}
        split = fields.pop(f"{config.name}/split")
        assert list(fields) == [f"{config.name}/{column}" for column in config.columns]
        paths = list(tree.glob(files[f"{config.name}-files"]["includes"]))
        pattern = re.compile(split["source"]["transform"]["regex"])
        for path in paths:
            schema = pq.read_schema(path)
            columns = {field["source"]["extract"]["column"] for field in fields.values()}
            assert columns == set(schema.names)
            found = pattern.match(path.relative_to(tree).as_posix())
            assert found
            assert path.name.startswith(f"{found[1]}-")
            assert {f"{config.name}-splits/split": found[1]} in sets[f"{config.name}-splits"][
                "data"
            ]
        assert paths
    parts = [part["@id"] for part in sets["sft"]["field"][-1]["subField"]]
    assert parts == ["sft/messages/role", "sft/messages/content"]


def test_loads_by_name_without_this_package(tree: Path, shared_data: Path, tmp_path: Path) -> None:
    names = ["sft", "preferences", "webvid_qa"]
    code = (
        "import datasets, json, sys\n"
        "datasets.disable_progress_bars()\n"
        f"for name in {names}:\n"
        f"    found = datasets.load_dataset({str(tree)!r}, name)\n"
        "    stream = datasets.load_dataset("
        f"{str(tree)!r}, name, streaming=True)\n"
        "    for split in found:\n"
        "        rows = list(found[split])\n"
        "        assert list(stream[split]) == rows\n"
        "        print(json.dumps([name, split, rows]))\n"
        "assert 'sharegptvideo' not in sys.modules\n"
        f"first = datasets.load_dataset({str(tree)!r})\n"
        "assert first['train'].column_names[-1] == 'caption'\n"
    )
    output = run_python(code, tmp_path, HF_DATASETS_OFFLINE="1")
    lines = [json.loads(line) for line in output.splitlines()]
    assert [name for name, _, _ in lines] == names
    for name, split, rows in lines:
        assert rows == list(read_rows(name, shared_data / "release", split))


def test_cards_are_filled_in(tree: Path) -> None:
    for config in held_configs(tree):
        text = (tree / config.name / "README.md").read_text("utf-8")
        assert "$" not in text
        assert text.startswith("# ")
        split = config.splits[0]
        rows = list(read_rows(config.name, tree, split))
        media = [
            plural(len(names), medium)
            for medium in config.paths
            if (names := {row[medium] for row in rows} - {None})
        ]
        assert f"| {split} | {len(rows)} | {', '.join(media)} | 1 | " in text
        example = json.loads(text.split("```json\n")[1].split("```")[0])
        assert list(example) == list(config.columns)
        assert example["id"] == rows[0]["id"]
    text = (tree / "preferences" / "README.md").read_text("utf-8")
    sources = [row["source"] for row in read_rows("preferences", tree)]
    for source in set(sources):
        assert f"| {source or 'not known'} | {sources.count(source)} | " in text


def test_front_page(tree: Path) -> None:
    page = (tree / "README.md").read_text("utf-8")
    rows = {
        config.name: len(list(read_rows(config.name, tree, config.splits[0])))
        for config in held_configs(tree)
    }
    assert f"\n{sum(rows.values())} rows in {len(rows)} configs" in page
    for name, count in rows.items():
        assert f"| [`{name}`]({name}/README.md) | " in page
        assert f" | {count} | " in page
    assert 'load_dataset("tester/mine", "captions", split="train")' in page
    assert changelog_entries(page) == ["- v1: All of it."]


def test_eval_file_names_the_test_sets(tree: Path) -> None:
    found = yaml.safe_load((tree / "eval.yaml").read_text("utf-8"))
    assert list(found) == ["name", "description", "evaluation_framework", "tasks"]
    tests = [config.name for config in held_configs(tree) if config.is_task]
    assert found["tasks"] == [{"id": name, "config": name, "split": "test"} for name in tests]


def test_no_test_sets_no_eval_file(tree: Path, tmp_path: Path) -> None:
    publish(tree, "tester/mine", dry_run=tmp_path / "out", configs=["qa", "captions"])
    assert not (tmp_path / "out" / "eval.yaml").exists()
    head = block(tmp_path / "out" / "README.md")
    # The order asked for is the order shown; the first is the default.
    assert [c["config_name"] for c in head["configs"] if c.get("default")] == ["qa"]
    assert head["license"] == "apache-2.0"


def contents(folder: Path) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_published_again_from_itself_gives_the_same_bytes(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(tree, out)
    publish(out, "tester/mine", dry_run=out, tag="v2", changelog="The same.")
    before, after = contents(tree), contents(out)
    data = [name for name in before if name.endswith(".parquet")]
    assert {name: after[name] for name in data} == {name: before[name] for name in data}
    assert after.keys() == before.keys()
    page = after["README.md"].decode()
    assert changelog_entries(page) == ["- v2: The same.", "- v1: All of it."]
    assert "carry no record of where their rows come from" in after["qa/README.md"].decode()
    done = publish(out, "tester/mine", dry_run=out, origin="the release, by hand.")
    assert done.tree.configs[0].origin.endswith(" from the release, by hand.")


def test_changelog() -> None:
    assert with_entry((), "v1", " New. ") == ["- v1: New."]
    assert with_entry(["- v1: New."], "v1", "New.") == ["- v1: New."]
    assert with_entry(["- v1: New."], "v1", "Newer.") == ["- v1: Newer.", "- v1: New."]
    for text in ("", "a\nb"):
        with pytest.raises(UserError, match="one line"):
            with_entry((), "v1", text)
    assert changelog_entries("# A page of somebody else's\n\n- v1: no entry of ours\n") == []


@pytest.mark.parametrize(
    ("rows", "cause"),
    [
        ('{"id": "1", "video": "../v", "prompt": "p", "caption": "c"}', "leads out of its folder"),
        ('{"id": "1", "video": "v", "prompt": "p", "caption": " "}', "'caption' is empty"),
        ('{"id": "1", "video": "v", "prompt": "p", "capt', "not JSON"),
    ],
)
def test_rows_that_validate_refuses(rows: str, cause: str, tmp_path: Path) -> None:
    file = tmp_path / "data/video_instruction/train/pretrain/video_caption_pretrain.jsonl"
    file.parent.mkdir(parents=True)
    good = '{"id": "0", "video": "v", "prompt": "p", "caption": "c"}'
    file.write_text(f"{good}\n{rows}\n", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        publish(tmp_path / "data", "tester/mine", dry_run=tmp_path / "out")
    assert f"1 error, first {file}:2: " in str(caught.value)
    assert cause in str(caught.value)
    assert str(caught.value).endswith("lists all; nothing was published")
    assert caught.value.exit_code == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("notes.txt", "mine", "holds notes.txt, which is no part of a published tree"),
        ("qa/train-00000-of-00001.parquet", "", "no published tree, it has no README.md"),
    ],
)
def test_folder_with_other_files_stays(
    name: str, content: str, cause: str, tree: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text(content)
    with pytest.raises(UserError, match=cause):
        publish(tree, "tester/mine", dry_run=out)
    assert contents(out) == {name: content.encode()}


def test_out_is_a_file(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UserError, match="out: a file; name a folder"):
        publish(tree, "tester/mine", dry_run=tmp_path / "out")
    with pytest.raises(UserError, match="cannot be written"):
        publish(tree, "tester/mine", dry_run=tmp_path / "out" / "below")


def test_stopped_on_the_way_leaves_the_old_tree(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(tree, out)
    steps: list[str] = []

    def stop(_done: int, _total: int, what: str) -> None:
        steps.append(what)
        if what == "sft":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish(tree, "tester/mine", dry_run=out, progress=stop)
    assert "qa" in steps
    assert contents(out) == contents(tree)
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    ("repo_id", "cause"),
    [("mine", "OWNER/NAME is needed"), ("a/b/c", "--repo-id 'a/b/c'"), ("a/b c", "--repo-id")],
)
def test_repo_id(repo_id: str, cause: str, tree: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=cause):
        publish(tree, repo_id, dry_run=tmp_path / "out")


CARD = """---
pretty_name: My captions
license: cc0-1.0
language: [en]
---
# My captions

Written by me for $$0.

$example

$splits
"""


def test_own_card(tree: Path, tmp_path: Path) -> None:
    cards = tmp_path / "cards"
    cards.mkdir()
    (cards / "captions.md").write_text(CARD)
    done = publish(
        tree, "tester/mine", dry_run=tmp_path / "out", configs=["captions", "qa"], cards=cards
    )
    assert [facts.template.neutral for facts in done.tree.configs] == [False, True]
    text = (tmp_path / "out" / "captions" / "README.md").read_text("utf-8")
    assert text.startswith("# My captions\n\nWritten by me for $0.\n\nThe first row of `train`")
    page = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert "| My captions | train |" in page
    assert "| `captions` | cc0-1.0 (" in page
    assert block(tmp_path / "out" / "README.md")["license"] == "other"


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        ("$splits", "$n_train", r"\$n_train in the text \(places: \$example, "),
        ("$$0", "$ 0", r"a \$ before no name in the text"),
        ("---\npretty", "pretty", "opens with no block"),
        ("license: cc0-1.0", "licence: cc0-1.0", "no text under 'license'"),
        ("[en]", "en", "'language' in the block at the top is not a list"),
        ("[en]", "[en", "the block at the top: not YAML"),
    ],
)
def test_own_card_with_a_mistake(
    old: str, new: str, cause: str, tree: Path, tmp_path: Path
) -> None:
    (tmp_path / "captions.md").write_text(CARD.replace(old, new))
    with pytest.raises(UserError, match=cause) as caught:
        publish(tree, "a/b", dry_run=tmp_path / "out", configs=["captions"], cards=tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'captions.md'}: ")


@pytest.fixture(scope="module")
def media(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clips of the release: frame folders, and one clip as a file instead."""
    folder = tmp_path_factory.mktemp("media")
    for archive in sorted((shared_data / "release" / "train_300k").glob("*.tar.gz")):
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    clip = next(iter(sorted((shared_data / "videos").glob("*.mp4"))))
    shutil.rmtree(folder / "baby_reading", ignore_errors=True)
    shutil.copy(clip, folder / "baby_reading.mp4")
    return folder


def frames(clip: bytes) -> Iterator[Any]:
    with av.open(io.BytesIO(clip)) as film:
        for frame in film.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def test_clips_in_the_rows(tree: Path, media: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = publish(tree, "a/b", dry_run=out, configs=["captions", "sft"], media=media)
    assert block(out / "README.md")["dataset_info"][0]["features"][-1] == {
        "name": "clip",
        "dtype": "video",
    }
    record = json.loads((out / "croissant.json").read_text("utf-8"))
    clip = record["recordSet"][1]["field"][-1]
    assert (clip["@id"], clip["dataType"]) == ("captions/clip", "sc:VideoObject")
    rows = pq.read_table(next((out / "captions").glob("*.parquet"))).to_pylist()
    found = done.tree.configs[0].clips
    assert found is not None
    assert found.rows_with == sum(row["clip"] is not None for row in rows)
    assert found.rows_with + found.rows_without == len(rows) == 5
    assert found.rows_without == len(
        [row for row in rows if not list(media.glob(row["video"] + "*"))]
    )
    by_video = {row["video"]: row["clip"] for row in rows}
    assert by_video["baby_reading"] == {
        "bytes": (media / "baby_reading.mp4").read_bytes(),
        "path": "baby_reading.mp4",
    }
    folder = next(path for path in sorted(media.iterdir()) if path.is_dir())
    pictures = sorted(folder.iterdir())
    film = list(frames(by_video[folder.name]["bytes"]))
    assert len(film) == len(pictures)
    for frame, picture in zip(film, pictures, strict=True):
        assert np.array_equal(frame, next(frames(picture.read_bytes())))
    again = publish(out, "a/b", dry_run=tmp_path / "again", configs=["captions"])
    assert again.tree.configs[0].left == ("clip",)
    # Our own reader takes the columns it knows; so does anyone who asks for the bytes.
    assert list(read_rows("captions", out)) == list(read_rows("captions", tree))
    table = datasets.load_dataset(str(out), "captions", split="train", cache_dir=str(tmp_path))
    assert table.features["clip"] == datasets.Video()
    raw = table.cast_column("clip", datasets.Video(decode=False))
    assert raw["clip"] == [row["clip"] for row in rows]


def test_missing_clips_are_reported(tree: Path, tmp_path: Path) -> None:
    some = tmp_path / "media"
    (some / "msrvtt_clip").mkdir(parents=True)  # a folder without frames
    (some / "baby_reading.mp4").write_bytes(b"kept as it is")
    done = publish(tree, "a/b", dry_run=tmp_path / "out", configs=["captions"], media=some)
    clips = done.tree.configs[0].clips
    assert clips is not None
    assert (clips.rows_with, clips.rows_without) == (1, 4)
    missing = sorted(done.tree.report.missing_videos)
    assert missing == sorted({r["video"] for r in read_rows("captions", tree)} - {"baby_reading"})


def test_synthetic_world(tmp_path: Path) -> None:
    world = tmp_path / "world"
    build_world(world, seed=3, sizes=Sizes(6, 4, 3, 2), workers=1)
    done = publish_any(world, "a/b", dry_run=tmp_path / "out", media=world / "videos")
    facts = {one.config.name: one for one in done.tree.configs}
    said = "the synthetic world with seed 3 and sizes train 6, preference 4, test 3, out_of_domain"
    assert said in facts["synthetic_qa"].origin
    assert facts["captions"].template.neutral
    assert not facts["synthetic_qa"].template.neutral
    assert facts["image_captions"].splits["train"].images == 4
    assert facts.pop("image_captions").clips is None
    for one in facts.values():
        assert one.clips is not None
        assert (one.clips.rows_with, one.clips.rows_without) == (one.rows, 0)


CAPTIONS = "video_instruction/train/pretrain/video_caption_pretrain.jsonl"
PAIRS = "video_instruction/train/dpo/sft_dpo_17k.jsonl"
TESTS = "video_instruction/test/msvd.qa.jsonl"
OF_THE_RELEASE = (
    "SHARE",
    "ShareGPT",
    "GPT",
    "arXiv",
    "2404",
    "Zhang",
    "17k",
    "900k",
    "Apache",
    "apache",
)


def write_rows(root: Path, file: str, *rows: dict[str, Any]) -> Path:
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "".join(json.dumps({"id": f"r{n}", **row}) + "\n" for n, row in enumerate(rows))
    )
    return root


def pair(video: str, chosen: str, rejected: str, *scores: float) -> dict[str, Any]:
    given = dict(zip(("chosen_score", "rejected_score"), scores, strict=False))
    return {"video": video, "prompt": "Q?", "chosen": chosen, "rejected": rejected, **given}


def pages(out: Path) -> dict[str, str]:
    return {path.relative_to(out).as_posix(): path.read_text("utf-8") for path in out.rglob("*.md")}


def own(root: Path) -> Path:
    """Rows of one's own in the release's layout, under its file names."""
    rows = [{"video": f"103{n}", "prompt": "Describe.", "caption": f"It is {n}."} for n in range(3)]
    write_rows(root, CAPTIONS, *rows)
    return write_rows(root, PAIRS, pair("v1", "good", "bad", 4, 2), pair("v2", "fine", "worse"))


def test_rows_of_ones_own_have_no_word_of_the_release(tmp_path: Path) -> None:
    """In its layout, its files' names, as Parquet, or its files with a row changed."""
    publish_any(own(tmp_path / "mine"), "a/b", dry_run=tmp_path / "out")
    publish_any(tmp_path / "out", "a/b", dry_run=tmp_path / "again")
    for out in (tmp_path / "out", tmp_path / "again"):
        texts = pages(out)
        assert texts.keys() == {"README.md", "captions/README.md", "preferences/README.md"}
        for name, text in texts.items():
            assert not [word for word in OF_THE_RELEASE if word in text], name
        head = block(out / "README.md")
        assert head["license"] == "unknown"
        assert "language" not in head
        assert "the licence is not known" in texts["captions/README.md"]
        # A number as a clip's name is WebVid's to the reader, but no terms follow from a guess.
        assert "m-bain" not in texts["captions/README.md"]
        assert "| `chosen_score` | float64, may be null |" in texts["preferences/README.md"]


def test_licence_of_a_neutral_card(tmp_path: Path) -> None:
    root = own(tmp_path / "mine")
    publish_any(root, "a/b", dry_run=tmp_path / "out", licence="cc-by-4.0", origin="my films")
    assert block(tmp_path / "out/README.md")["license"] == "cc-by-4.0"
    card = pages(tmp_path / "out")["captions/README.md"]
    assert "Rows: `cc-by-4.0`." in card
    assert "from my films." in card
    read: list[str] = []

    def progress(_done: int, _total: int, what: str) -> None:
        read.append(what)

    for given, cause in (
        ({"licence": "CC BY"}, "--license 'CC BY': name it as the Hub does"),
        ({"cards": "packge"}, "packge: no such folder; --cards is a folder with"),
        ({"licence": "mit", "cards": "package"}, "--license is for neutral cards"),
    ):
        with pytest.raises(UserError, match=cause):
            publish_any(root, "a/b", dry_run=tmp_path / "other", progress=progress, **given)
    assert read == []  # before rows are checked


@pytest.mark.parametrize(
    ("rows", "check"),
    [
        ([pair("v1", "same", "same")], "equal-sides"),
        ([pair("v1", "good", "bad", 2, 4)], "reversed-scores"),
        ([pair("x/cat_walks.MTS", "good", "bad")], "leak-name"),
    ],
)
def test_found_before_anything_is_written(
    rows: list[dict[str, Any]], check: str, tmp_path: Path
) -> None:
    """Also with only one config asked for; allowed, it is counted on both pages."""
    root = write_rows(tmp_path / "mine", PAIRS, pair("v0", "good", "bad"), *rows)
    write_rows(root, TESTS, {"video": "test/msvd/cat_walks", "question": "Q?", "answer": "A."})
    out = tmp_path / "out"
    with pytest.raises(UserError) as caught:
        publish_any(root, "a/b", dry_run=out, configs=["preferences"])
    message = str(caught.value)
    assert message.startswith(f"{root}: 1 error, first {root / PAIRS}:2: ")
    assert message.endswith(
        f"nothing was published; with --allow {check} it is, and the cards say so"
    )
    assert not out.exists()
    publish_any(root, "a/b", dry_run=out, configs=["preferences"], allow=[check])
    for name in ("README.md", "preferences/README.md"):
        section = pages(out)[name].split("## Checks before publishing\n")[1].split("\n## ")[0]
        where = " in all configs" if check == "leak-name" else ""
        assert section.count(f"1 found{where}, and published all the same") == 1
        assert section.count(": none\n") == 2


def test_leaks_into_test_sets_of_another_folder(tmp_path: Path) -> None:
    root = write_rows(tmp_path / "mine", PAIRS, pair("cat_walks", "good", "bad"))
    question = {"video": "test/msvd/cat_walks", "question": "Q?", "answer": "A."}
    tests = write_rows(tmp_path / "tests", TESTS, question)
    publish_any(root, "a/b", dry_run=tmp_path / "out")
    assert "not looked for, there are no test rows" in pages(tmp_path / "out")["README.md"]
    with pytest.raises(UserError, match=r"1 error, .*leak-name"):
        publish_any(root, "a/b", dry_run=tmp_path / "other", against=tests)
