"""Clips by their stems, in the layouts of the release and others."""

from __future__ import annotations

import pickle
import shutil
import unicodedata
from pathlib import Path

import av
import numpy as np
import pytest

from sharegptvideo.errors import UserError
from sharegptvideo.media import MediaError, MediaFolder, sample_frames


def tree(root: Path, *names: str) -> MediaFolder:
    """A folder with these files (empty; `x/` for a folder of two frames)."""
    for name in names:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True)
            for frame in ("c01_0001.jpeg", "c01_0002.jpeg"):
                (path / frame).touch()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return MediaFolder(root)


@pytest.mark.parametrize(
    ("stem", "place"),
    [
        ("clip", "clip.mp4"),
        ("clip", "clip/"),
        ("clip", "videos/clip.mp4"),
        ("clip", "train_300k/chunk_0/clip/"),
        ("clip", "train_600k/chunk_29/clip/"),
        ("clip", "some/where/else/clip.webm"),
        ("test/msvd/clip", "test/msvd/clip.avi"),
        ("test/msvd/clip", "test/msvd/clip/"),
        ("test/msvd/clip", "media/test/msvd/clip.avi"),
        ("test/msvd/clip", "msvd/clip.avi"),
        ("test/msvd/clip", "msvd/videos/clip.avi"),
        ("test/msvd/clip", "clip.avi"),
        ("test/msvd/clip", "videos/clip.MP4"),
        ("test/tgif/clip", "gifs/clip.gif"),
        ("test/actnet/clip", "raw/activitynet/chunk_3/clip.mp4"),
        ("test/activitynet/clip", "test/actnet/clip/"),
        ("v_abc.def", "v_abc.def.mp4"),
        ("v_abc.def", "test/v_abc.def/"),
        ("v_abc.mp4", "videos/v_abc.mp4"),
        ("./videos/clip", "videos/clip.mp4"),
        # Rows of derived sets name clips `X.mp4` whose folder of frames is `X`, and the reverse.
        ("clip.mp4", "train_300k/chunk_0/clip/"),
        ("clip.mp4", "videos/clip.avi"),
        ("test/msvd/clip.MP4", "msvd/clip/"),
        ("v_abc.def.mp4", "v_abc.def/"),
        ("clip", "train_300k/chunk_0/clip.mp4/"),
        ("test/msvd/clip", "msvd/clip.mp4/"),
    ],
)
def test_layouts(tmp_path: Path, stem: str, place: str) -> None:
    find = tree(tmp_path, place, "videos/other.mp4", "train_300k/chunk_1/another/")
    assert find.resolve(stem) == tmp_path / place


@pytest.mark.parametrize(
    ("stem", "place"),
    [
        ("test/msvd/clip", "test/msrvtt/clip.mp4"),
        ("test/msvd/clip", "msrvtt/clip.mp4"),
        ("test/msvd/clip", "other_set/videos/clip.mp4"),
        ("clip", "clip.txt"),
        ("clip", "clip2.mp4"),
        ("clip", "CLIP.mp4"),
        ("v_abc", "v_abc.def.mp4"),
        ("v_abc.def", "v_abc.mp4"),
        ("v_abc.def", "v_abc/"),
        ("clip.jpeg", "clip/"),
        ("test/msvd/clip.mp4", "msrvtt/clip/"),
        (".mp4", "clip.mp4"),
        ("clip/c01_0001", "clip/"),
        ("videos", "videos/clip.mp4"),
    ],
)
def test_another_clip_is_never_given(tmp_path: Path, stem: str, place: str) -> None:
    assert tree(tmp_path, place).resolve(stem) is None


def test_shared_data(shared_data: Path) -> None:
    find = MediaFolder(shared_data)
    videos, gifs = shared_data / "videos", shared_data / "gifs"
    assert find.resolve("test/msrvtt/msrvtt_clip") == videos / "msrvtt_clip.mp4"
    assert find.resolve("test/tgif/tgif_cat_drinks") == gifs / "tgif_cat_drinks.gif"
    assert find.resolve("baby_reading") == videos / "baby_reading.mp4"
    assert find.resolve("videos/baby_reading") == videos / "baby_reading.mp4"
    assert find.resolve("test/msvd/absent") is None


@pytest.mark.parametrize("stem", ["../clip", "a/../../clip", "/clip", "", ".", "a\0b"])
def test_a_stem_that_leaves_the_folder_is_refused(tmp_path: Path, stem: str) -> None:
    find = tree(tmp_path / "root", "clip.mp4")
    (tmp_path / "clip.mp4").touch()
    with pytest.raises(MediaError, match="not the stem of a clip"):
        find.resolve(stem)


def test_the_whole_stem_is_preferred(tmp_path: Path) -> None:
    find = tree(
        tmp_path, "test/msvd/clip.avi", "clip.mp4", "backup/test/msvd/clip.avi", "msvd/clip/"
    )
    assert find.resolve("test/msvd/clip") == tmp_path / "test/msvd/clip.avi"
    assert find.resolve("clip") == tmp_path / "clip.mp4"
    assert find.resolve("msvd/clip") == tmp_path / "msvd/clip"


def test_the_name_as_it_stands_is_preferred(tmp_path: Path) -> None:
    find = tree(tmp_path, "chunk_0/clip/", "chunk_1/clip.mp4/", "other.avi", "videos/other.mp4")
    assert find.resolve("clip") == tmp_path / "chunk_0/clip"
    assert find.resolve("clip.mp4") == tmp_path / "chunk_1/clip.mp4"
    assert find.resolve("other.mp4") == tmp_path / "videos/other.mp4"


def test_a_video_file_is_preferred_to_its_frames(tmp_path: Path) -> None:
    find = tree(tmp_path, "train_300k/chunk_3/clip/", "videos/clip.mp4")
    assert find.resolve("clip") == tmp_path / "videos/clip.mp4"
    assert find.resolve("train_300k/chunk_3/clip") == tmp_path / "train_300k/chunk_3/clip"


@pytest.mark.parametrize(
    "places",
    [
        ("a/clip.mp4", "b/clip.mp4"),
        ("clip.mp4", "clip.webm"),
        ("train_300k/chunk_0/clip/", "train_300k/chunk_1/clip/"),
    ],
)
def test_two_clips_that_fit_equally_are_an_error(tmp_path: Path, places: tuple[str, str]) -> None:
    find = tree(tmp_path, *places)
    with pytest.raises(MediaError) as caught:
        find.resolve("clip")
    first, second = (place.rstrip("/") for place in places)
    assert f"'clip' fits {first} and {second}; remove or rename all but one" in str(caught.value)


def test_pictures_beside_videos_do_not_hide_them(tmp_path: Path) -> None:
    find = tree(tmp_path, "videos/clip.mp4", "videos/clip.jpg", "cover.jpg", "sub/frames/")
    assert find.resolve("clip") == tmp_path / "videos/clip.mp4"
    assert find.resolve("sub/frames") == tmp_path / "sub/frames"
    assert find.resolve("videos") is None


def test_links_are_followed_once(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    tree(elsewhere, "clip.mp4")
    root = tmp_path / "root"
    root.mkdir()
    (root / "linked").symlink_to(elsewhere)
    (root / "loop").symlink_to(root)
    (root / "dangling.mp4").symlink_to(tmp_path / "gone.mp4")
    find = MediaFolder(root)
    assert find.resolve("clip") == root / "linked/clip.mp4"
    assert find.resolve("dangling") is None


def test_it_can_be_sent_to_a_loader_worker(tmp_path: Path) -> None:
    find = tree(tmp_path, "videos/clip.mp4")
    find.resolve("clip")
    assert pickle.loads(pickle.dumps(find)).resolve("clip") == tmp_path / "videos/clip.mp4"


def test_a_missing_root_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder of media"):
        MediaFolder(tmp_path / "gone")


def test_two_links_to_one_folder_are_two_places(tmp_path: Path) -> None:
    tree(tmp_path / "all", "clip.mp4", "frames/")
    root = tmp_path / "media"
    for name in ("msrvtt", "tgif"):
        (root / "test").mkdir(parents=True, exist_ok=True)
        (root / "test" / name).symlink_to(tmp_path / "all")
    (tmp_path / "all" / "back").symlink_to(root)
    find = MediaFolder(root)
    for name in ("msrvtt", "tgif"):
        assert find.resolve(f"test/{name}/clip") == root / "test" / name / "clip.mp4"
        assert find.resolve(f"test/{name}/frames") == root / "test" / name / "frames"
    # One file by two ways is no doubt about which clip is meant.
    assert find.resolve("clip") == root / "test/msrvtt/clip.mp4"


@pytest.mark.parametrize("name", ["Café", "한글", "Åland/Ünder"])
def test_names_match_across_unicode_forms(tmp_path: Path, name: str) -> None:
    composed, apart = (unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
    assert composed != apart
    for number, (asked, there) in enumerate([(composed, apart), (apart, composed)]):
        root = tmp_path / str(number)
        find = tree(root, f"{there}.mp4", f"frames/{there}/")
        assert find.resolve(asked) == root / f"{there}.mp4"
        assert find.resolve(f"{asked}.mp4") == root / f"{there}.mp4"
        assert find.resolve(f"frames/{asked}") == root / "frames" / there


def test_the_form_as_it_stands_is_preferred(tmp_path: Path) -> None:
    names = [unicodedata.normalize(form, "Café") for form in ("NFC", "NFD")]
    find = tree(tmp_path, *(f"{name}.mp4" for name in names))
    for name in names:
        assert find.resolve(name) == tmp_path / f"{name}.mp4"


# What FFmpeg writes for each of these muxers, under the endings that people's files have.
@pytest.mark.parametrize(
    ("muxer", "endings"),
    [
        ("mpegts", ["ts", "MTS", "m2ts", "m2t", "tp", "trp"]),
        ("vob", ["VOB", "mpe", "mod", "tod", "evo"]),
        ("ogg", ["ogv", "ogm", "ogx"]),
        ("asf", ["asf", "wmv", "dvr-ms"]),
        ("mov", ["qt", "f4v", "3g2"]),
        ("matroska", ["mk3d"]),
        ("mxf", ["mxf"]),
        ("nut", ["nut"]),
        ("avi", ["divx"]),
        ("mpeg2video", ["m2v"]),
        ("yuv4mpegpipe", ["y4m"]),
    ],
)
def test_containers_that_ffmpeg_reads_are_clips(
    tmp_path: Path, muxer: str, endings: list[str]
) -> None:
    codec = {"ogg": "libvpx", "asf": "wmv2", "yuv4mpegpipe": "rawvideo"}.get(muxer)
    clip = encoded(tmp_path / "clip", muxer, codec or "mpeg2video")
    for ending in endings:
        root = tmp_path / ending
        root.mkdir()
        shutil.copy(clip, root / f"clip.{ending}")
        assert MediaFolder(root).resolve("clip") == root / f"clip.{ending}"
        frames, _ = sample_frames(root / f"clip.{ending}", 4)
        assert frames.shape == (4, 64, 64, 3)


def encoded(path: Path, muxer: str, codec: str) -> Path:
    """A grey clip of 64 × 64 pixels and 12 frames."""
    with av.open(path, "w", format=muxer) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for _ in range(12):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 128, np.uint8))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_a_file_of_an_unknown_ending_is_named(tmp_path: Path) -> None:
    find = tree(
        tmp_path, "test/msvd/clip.xyz", "test/msvd/.clip2.xyz", "other.mp4", "x/y.txt", "x/bare"
    )
    assert find.resolve("test/msvd/clip") is None
    assert find.unlisted("test/msvd/clip") == "test/msvd/clip.xyz"
    assert find.unlisted("test/msvd/clip.xyz") == "test/msvd/clip.xyz"  # as a row may name it
    assert find.unlisted("set/x/y") == "x/y.txt"
    assert find.unlisted("x/bare") == "x/bare"
    for absent in ("test/msvd/clip2", "other", "clip", "gone/clip"):
        assert find.unlisted(absent) is None


def test_links_that_lead_nowhere_are_named_and_stop_nothing(tmp_path: Path) -> None:
    find = tree(tmp_path, "there.mp4")
    links = {
        "gone.mp4": "../away.mp4",
        "loop.mp4": "loop.mp4",
        "frames": "frames",
        "a.png": "a.png",
    }
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    assert find.resolve("there") == tmp_path / "there.mp4"
    assert [find.resolve(stem) for stem in ("gone", "loop", "frames")] == [None] * 3
    assert find.broken_link("gone") == find.broken_link("gone.mp4") == "gone.mp4 -> ../away.mp4"
    assert find.broken_link("loop") == "loop.mp4 -> loop.mp4"
    assert find.broken_link("set/frames") == "frames -> frames"
    assert find.broken_link("there") is None
    assert find.unlisted("gone") is None
