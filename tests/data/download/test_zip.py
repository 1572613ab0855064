"""Zip archives from untrusted places: what comes out, what is refused, where it stops."""

from __future__ import annotations

import io
import random
import stat
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharegptvideo.data.download import ArchiveError, Limits, unpack
from tests.support.archives import zipped

PICTURE = random.Random(0).randbytes(5000)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """The archive's path: in a folder of its own, with a file beside it that must stay alone."""
    folder = tmp_path / "there"
    folder.mkdir()
    (folder / "mine").write_text("untouched")
    return folder / "images_0.zip"


def _files(folder: Path) -> dict[str, bytes]:
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _refusal(archive: Path, content: bytes, limits: Limits | None = None) -> str:
    """The message with which an archive is refused; nothing was written beside the folder."""
    archive.write_bytes(content)
    around = archive.parent.parent
    before = set(around.rglob("*"))
    into = archive.parent / "out"
    with pytest.raises(ArchiveError) as caught:
        unpack(archive, into, limits)
    assert {path for path in around.rglob("*") if not path.is_relative_to(into)} == before
    assert (archive.parent / "mine").read_text() == "untouched"
    message = str(caught.value)
    assert message.startswith(f"{archive}: ")
    assert "\n" not in message
    return message


def _with_mode(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_files_and_folders(archive: Path, method: int) -> None:
    files = {"a/1.jpeg": PICTURE, "a/2 é.jpeg": b"", "b/c/3.jpeg": bytes(200_000), "4.png": b"4"}
    archive.write_bytes(zipped([("b/", b""), *files.items()], method))
    seen: list[tuple[int, int]] = []
    out = unpack(archive, archive.parent / "out", tick=lambda *place: seen.append(place))
    assert _files(archive.parent / "out") == files
    assert (out.entries, out.bytes, out.folder) == (7, 205_001, archive.parent / "out")
    assert len(seen) == 5
    assert 5000 <= seen[-1][1] <= archive.stat().st_size


def test_an_archive_without_entries(archive: Path) -> None:
    archive.write_bytes(zipped({}))
    assert unpack(archive, archive.parent / "out").entries == 0


def test_single_top_folder_that_is_not_kept(archive: Path) -> None:
    archive.write_bytes(zipped({"images_0/1.jpeg": b"1", "images_0/2.jpeg": b"2"}))
    out = unpack(archive, archive.parent / "out", drop=frozenset({"images_0"}))
    assert out.folder == archive.parent / "out/images_0"


def test_rights_are_not_taken_over(archive: Path) -> None:
    archive.write_bytes(zipped([(_with_mode("run", stat.S_IFREG | 0o6777), b"#!")]))
    unpack(archive, archive.parent / "out")
    assert (archive.parent / "out/run").stat().st_mode & 0o7111 == 0


@pytest.mark.parametrize(
    "name",
    ["../out.jpeg", "a/../../b", "/etc/x", "C:\\x", "a\\..\\b", "c:x", "..", "a/..", "a/../b"],
)
def test_a_path_that_leads_outside(archive: Path, name: str) -> None:
    assert "its path leads outside the folder" in _refusal(archive, zipped([(name, b"x")]))


def test_a_name_with_a_zero_byte(archive: Path) -> None:
    # zipfile itself would cut such a name, in writing and in reading.
    content = zipped({"a.jpegX../../b": b"x"}).replace(b"a.jpegX", b"a.jpeg\0")
    assert "its path leads outside the folder" in _refusal(archive, content)


@pytest.mark.parametrize(
    ("mode", "cause"),
    [
        (stat.S_IFLNK, "a link; of a zip archive none is made"),
        (stat.S_IFIFO, "a device, pipe or other special entry"),
        (stat.S_IFCHR, "a device, pipe or other special entry"),
        (stat.S_IFSOCK, "a device, pipe or other special entry"),
    ],
)
def test_links_and_special_entries(archive: Path, mode: int, cause: str) -> None:
    entries = [("good.jpeg", b"x"), (_with_mode("bad", mode | 0o777), b"/etc/passwd")]
    assert f"'bad' is not safe ({cause})" in _refusal(archive, zipped(entries))
    assert not _files(archive.parent / "out"), "refused before anything is written"


def test_an_encrypted_entry(archive: Path) -> None:
    content = bytearray(zipped({"a.jpeg": PICTURE}))
    content[6] |= 1  # in the entry's own header
    content[content.index(b"PK\1\2") + 8] |= 1  # and in the list at the end
    assert "'a.jpeg' is encrypted; such an archive is not taken" in _refusal(
        archive, bytes(content)
    )


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_another_way_of_packing(archive: Path, method: int) -> None:
    content = zipped({"a.jpeg": PICTURE}, method)
    assert f"packed by method {method}; only deflate" in _refusal(archive, content)


def test_a_name_that_comes_twice(archive: Path) -> None:
    content = zipped([("a.jpeg", b"1"), ("b.jpeg", b"2"), ("a.jpeg", b"3")])
    assert "'a.jpeg' is not safe (the name comes twice)" in _refusal(archive, content)
    archive.parent.joinpath("out").rmdir()
    other = zipped([("x/a.jpeg", b"1"), ("x//./a.jpeg", b"2")])
    assert "another entry has its place on this disk" in _refusal(archive, other)


def test_names_that_differ_by_case(archive: Path) -> None:
    # Two files where the file system distinguishes them; refused, never one less, where not.
    archive.write_bytes(zipped({"a.JPG": b"1", "a.jpg": b"2"}))
    (archive.parent / "Probe").write_bytes(b"")
    if (archive.parent / "probe").exists():
        with pytest.raises(ArchiveError, match="another entry has its place on this disk"):
            unpack(archive, archive.parent / "out")
    else:
        unpack(archive, archive.parent / "out")
        assert _files(archive.parent / "out") == {"a.JPG": b"1", "a.jpg": b"2"}


@pytest.mark.parametrize("entries", [["a", "a/b"], ["a/b", "a"]])
def test_a_file_where_a_folder_is(archive: Path, entries: list[str]) -> None:
    message = _refusal(archive, zipped([(name, b"x") for name in entries]))
    assert "not safe" in message


def test_a_name_too_long_for_the_disk(archive: Path) -> None:
    message = _refusal(archive, zipped({"x" * 300 + ".jpeg": b"x"}))
    assert "an entry's name is not possible here (File name too long)" in message


# Where it stops.


def test_bomb_stops_at_the_limit_of_bytes(archive: Path) -> None:
    content = zipped({f"{n}.jpeg": bytes(1000) for n in range(20)})
    message = _refusal(archive, content, Limits(max_bytes=10_000))
    assert "unpacks to over 10,000 bytes; stopped" in message
    assert len(_files(archive.parent / "out")) == 10


def test_bomb_stops_at_the_limit_of_entries(archive: Path) -> None:
    content = zipped({f"{n}.jpeg": b"" for n in range(20)})
    assert "over 10 entries" in _refusal(archive, content, Limits(max_entries=10))
    assert not _files(archive.parent / "out")


def test_folders_count_too(archive: Path) -> None:
    content = zipped({"a/b/c/d/e/f/g/h.jpeg": b"", "i.jpeg": b""})
    assert "over 5 entries" in _refusal(archive, content, Limits(max_entries=5))


def test_bomb_stops_at_the_ratio_before_anything_is_written(archive: Path) -> None:
    content = zipped({"a": bytes(70_000_000)})
    assert "unpacks to over 100 times its size" in _refusal(archive, content)
    assert not _files(archive.parent / "out")


def test_bomb_of_entries_that_share_their_bytes(archive: Path) -> None:
    """Many names in the list point at one content: small, and without end once unpacked."""
    content = zipped({"a": bytes(3_000_000), "b": b""})
    start = content.index(b"PK\1\2")
    second = content.index(b"PK\1\2", start + 4)
    doubled = bytearray(content)
    doubled[second + 20 : second + 28] = content[start + 20 : start + 28]  # its sizes
    doubled[second + 42 : second + 46] = content[start + 42 : start + 46]  # and its place
    message = _refusal(archive, bytes(doubled))
    assert "entries share bytes, such an archive fills disks" in message


def test_a_size_that_is_a_lie(archive: Path) -> None:
    content = bytearray(zipped({"a": bytes(3_000_000)}))
    start = content.index(b"PK\1\2")
    for size in (10, 4_000_000):
        content[start + 24 : start + 28] = struct.pack("<L", size)
        assert "cut off" in _refusal(archive, bytes(content))
        for path in (archive.parent / "out").iterdir():
            assert path.stat().st_size <= size
            path.unlink()
        (archive.parent / "out").rmdir()


def test_a_list_that_fills_the_memory(archive: Path) -> None:
    content = zipped({f"{n:0200}": b"" for n in range(30)})
    message = _refusal(archive, content, Limits(max_entries=10))
    assert "a list of entries of" in message


# Damage.


def test_cut_off(archive: Path) -> None:
    content = zipped({f"{n}.jpeg": PICTURE for n in range(5)})
    for end in (len(content) - 1, len(content) - 30, len(content) // 2, 10, 4):
        message = _refusal(archive, content[:end])
        assert "cut off" in message
        (archive.parent / "out").rmdir()


def test_a_broken_picture(archive: Path) -> None:
    content = bytearray(zipped({"a.jpeg": PICTURE}, zipfile.ZIP_STORED))
    content[100] ^= 1
    assert "damaged or cut off (Bad CRC-32" in _refusal(archive, bytes(content))


def test_no_zip_after_all(archive: Path) -> None:
    assert "cut off" in _refusal(archive, b"PK\3\4" + PICTURE)


@settings(max_examples=60, deadline=None)
@given(position=st.integers(0, 10_000), value=st.integers(0, 255))
def test_any_damage_is_noticed_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, position: int, value: int
) -> None:
    files = {"a/1.jpeg": PICTURE[:2000], "a/2.jpeg": bytes(3000), "b.jpeg": PICTURE[:999]}
    content = bytearray(zipped(files))
    content[position % len(content)] = value
    folder = tmp_path_factory.mktemp("zip")
    archive = folder / "x.zip"
    archive.write_bytes(content)
    try:
        unpack(archive, folder / "out")
    except ArchiveError:
        return
    there = {path: data for path, data in _files(folder / "out").items() if data}
    assert set(there.values()) <= set(files.values()), "names may change, contents may not"


def test_large_archives_have_their_own_records(archive: Path) -> None:
    """Over 65,535 entries the list is found through the records of ZIP64."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        for number in range(65_600):
            packed.writestr(zipfile.ZipInfo(f"{number}"), b"")
    message = _refusal(archive, out.getvalue(), Limits(max_entries=100))
    assert "a list of entries of" in message
