"""Which files belong to a name, on listings like the release's; no Hub is asked."""

from __future__ import annotations

import pytest

from sharegptvideo.data.download.select import archive_name, select, top_names
from sharegptvideo.data.schema import CONFIGS
from sharegptvideo.data.sources.hub import TEST_REPO, TRAIN_REPO
from sharegptvideo.errors import UserError

ROWS = "video_instruction"
# The real repositories' files, as far as PAPER.md and the authors' set-up scripts name them.
LISTING = {
    TRAIN_REPO: [
        "README.md",
        f"{ROWS}/train/pretrain/video_caption_pretrain.jsonl",
        f"{ROWS}/train/pretrain/image_caption_pretrain.jsonl",
        f"{ROWS}/train/qa/a.jsonl",
        f"{ROWS}/train/qa/b.jsonl",
        f"{ROWS}/train/qa/old/c.jsonl",
        f"{ROWS}/train/sft/image_instruction_600k.jsonl",
        f"{ROWS}/train/sft/video_caption_300k.jsonl",
        f"{ROWS}/train/dpo/sft_dpo_17k.jsonl",
        *[f"train_300k/chunk_{n}.tar.gz" for n in range(16)],
        *[f"train_600k/chunk_{n}.tar.gz" for n in range(30)],
    ],
    TEST_REPO: [
        "compile_test_result.tar.gz",
        *[
            f"{ROWS}/test/{name}.qa.jsonl"
            for name in ("webvid", "vidal", "actnet", "msrvtt", "msvd", "tgif", "ssv2")
        ],
        *[f"{ROWS}/test/{name}.qa.official.jsonl" for name in ("msrvtt", "msvd", "tgif")],
        *[
            f"video_data/test/{name}.tar.gz"
            for name in ("webvid", "vidal", "actnet", "msrvtt", "msvd", "tgif", "ssv2")
        ],
        f"{ROWS}/test/test_result.tar.gz",
    ],
    # Of others, as the authors' set-up script fetches them.
    "FreedomIntelligence/ALLaVA-4V": [
        "README.md",
        "allava_laion/ALLaVA-Caption-LAION-4V.json",
        "allava_laion/images.zip",
        *[f"allava_laion/image_chunks/images_{n}.zip" for n in range(10)],
        "allava_vflan/ALLaVA-Caption-VFLAN-4V.json",
    ],
    "Vision-Flan/vision-flan_191-task_1k": ["image_191-task_1k.zip", "metadata.json"],
}


def _chosen(name: str, *, media: bool = False, only: str | None = None) -> list[str]:
    choices, _ = select(name, media=media, only=only)
    return [path for choice in choices for path in LISTING[choice.repo] if choice.takes(path)]


RAW = {
    "ShareGPTVideo/train_raw_video": [
        "README.md",
        *[f"activitynet/chunk_{n}.tar.gz" for n in range(3)],
    ],
    "ShareGPTVideo/test_raw_video_data": [
        *["msvd.tar.gz", "test/tgif/chunk_0.tar", "test/tgif/notes.txt", "activitynet.tar.gz"],
    ],
}


def test_raw_videos_in_a_folder_of_their_own() -> None:
    def chosen(name: str) -> list[str]:
        choices = [one for one in select(name, media=False, raw=True, only=None)[0] if one.folder]
        assert {choice.folder for choice in choices} == {"raw"}
        return [path for one in choices for path in RAW[one.repo] if one.takes(path)]

    assert chosen("qa") == RAW["ShareGPTVideo/train_raw_video"][1:]
    assert chosen("msvd_qa") == ["msvd.tar.gz"]
    assert chosen("tgif_qa_official") == ["test/tgif/chunk_0.tar"]
    assert chosen("activitynet_qa") == ["activitynet.tar.gz"]
    every = sorted(path for paths in RAW.values() for path in paths if ".tar" in path)
    assert sorted(chosen("all")) == every
    notes = [select(name, media=False, raw=True, only=None)[1] for name in ("qa", "msvd_qa")]
    assert [len(one) for one in notes] == [1, 0]
    assert "ActivityNet alone" in notes[0][0]


def test_rows_of_each_config() -> None:
    assert _chosen("captions") == [f"{ROWS}/train/pretrain/video_caption_pretrain.jsonl"]
    assert _chosen("qa") == [f"{ROWS}/train/qa/a.jsonl", f"{ROWS}/train/qa/b.jsonl"]
    assert _chosen("preferences") == [f"{ROWS}/train/dpo/sft_dpo_17k.jsonl"]
    assert _chosen("activitynet_qa") == [f"{ROWS}/test/actnet.qa.jsonl"]
    assert _chosen("msvd_qa_official") == [f"{ROWS}/test/msvd.qa.official.jsonl"]


def test_media_of_each_config() -> None:
    for name, chunks in (("qa", 16), ("sft", 16), ("preferences", 16), ("captions", 46)):
        archives = [path for path in _chosen(name, media=True) if path.endswith(".tar.gz")]
        assert len(archives) == chunks
    assert _chosen("activitynet_qa", media=True)[1:] == ["video_data/test/actnet.tar.gz"]
    assert _chosen("msvd_qa_official", media=True)[1:] == ["video_data/test/msvd.tar.gz"]


def test_images_come_from_their_own_repositories() -> None:
    archives = [f"allava_laion/image_chunks/images_{n}.zip" for n in range(10)]
    archives.append("image_191-task_1k.zip")
    rows = f"{ROWS}/train/pretrain/image_caption_pretrain.jsonl"
    assert _chosen("image_captions", media=True) == [rows, *archives]
    assert _chosen("sft", media=True)[-11:] == archives
    assert not any(path.endswith(".zip") for path in _chosen("captions", media=True))
    note = "the images come from repositories of others, as they are there now"
    for name in ("sft", "image_captions"):
        assert select(name, media=True, only=None)[1] == [note]
        assert select(name, media=False, only=None)[1] == []


def test_all_is_every_released_row_and_each_archive_once() -> None:
    paths = _chosen("all", media=True)
    assert len(paths) == len(set(paths))
    left = {path for listed in LISTING.values() for path in listed} - set(paths)
    assert left == {
        "README.md",
        f"{ROWS}/train/qa/old/c.jsonl",
        "compile_test_result.tar.gz",
        f"{ROWS}/test/test_result.tar.gz",
        "allava_laion/ALLaVA-Caption-LAION-4V.json",
        "allava_laion/images.zip",  # the same images once more, in one
        "allava_vflan/ALLaVA-Caption-VFLAN-4V.json",
        "metadata.json",
    }


@pytest.mark.parametrize("only", ["msvd", "MSVD"])
def test_only_one_source_of_all(only: str) -> None:
    assert _chosen("all", media=True, only=only) == [
        f"{ROWS}/test/msvd.qa.jsonl",
        f"{ROWS}/test/msvd.qa.official.jsonl",
        "video_data/test/msvd.tar.gz",
    ]
    notes = select("all", media=True, only=only)[1]
    assert notes == [
        "captions, qa, sft, image_captions, preferences: left out, since the training files and "
        "chunks mix their sources; leave out --only to have them"
    ]


def test_the_releases_own_short_name() -> None:
    assert _chosen("all", only="actnet") == _chosen("all", only="activitynet")


@pytest.mark.parametrize(
    ("name", "only", "message"),
    [
        ("qa", "webvid", "qa: its files and chunks mix their sources, so --only webvid cannot"),
        ("msvd_qa", "tgif", "msvd_qa: has nothing of tgif; leave out --only, or name its own"),
        ("msvd_qa", "mvsd", "unknown source 'mvsd'; did you mean msvd?"),
        ("msvd", None, "unknown dataset 'msvd'; did you mean msvd_qa"),
        ("activitynet_qa_official", None, "activitynet_qa_official is not in the release; make it"),
        ("synthetic_qa", None, "synthetic_qa is made on this machine and not downloaded"),
    ],
)
def test_what_cannot_be_chosen(name: str, only: str | None, message: str) -> None:
    with pytest.raises(UserError) as caught:
        select(name, media=True, only=only)
    assert str(caught.value).startswith(message)


def test_every_released_config_can_be_asked_for() -> None:
    for name, config in CONFIGS.items():
        if config.released and not name.startswith("synthetic"):
            assert select(name, media=True, only=None)[0]


def test_archives_by_name() -> None:
    assert archive_name("train_300k/chunk_0.tar.gz") == "train_300k/chunk_0"
    assert archive_name("a/b.tgz") == "a/b"
    assert archive_name("a/.tar.gz") is None
    assert archive_name("a/b.gz") is None
    assert top_names("x/actnet.tar.gz") == {"actnet", "activitynet"}
    assert top_names("train_300k/chunk_0.tar.gz") == {"chunk_0"}
