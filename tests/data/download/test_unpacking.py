"""Archives from untrusted places: what comes out, what is refused, where it stops."""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharegptvideo.data.download import ArchiveError, Limits, unpack
from tests.support.archives import Entry, entry, link, tar, tar_gz


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """The archive's path: in a folder of its own, with a file beside it that must stay alone."""
    folder = tmp_path / "there"
    folder.mkdir()
    (folder / "mine").write_text("untouched")
    return folder / "clips.tar.gz"


def _files(folder: Path) -> dict[str, bytes]:
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _refusal(archive: Path, *entries: Entry, limits: Limits | None = None) -> str:
    """The message with which the entries are refused; nothing was written beside the folder."""
    archive.write_bytes(tar_gz(entries))
    around = archive.parent.parent
    before = set(around.rglob("*"))
    into = archive.parent / "out"
    with pytest.raises(ArchiveError) as caught:
        unpack(archive, into, limits)
    outside = {path for path in around.rglob("*") if not path.is_relative_to(into)}
    assert outside == before
    assert (archive.parent / "mine").read_text() == "untouched"
    message = str(caught.value)
    assert message.startswith(f"{archive}: ")
    assert "\n" not in message
    return message


def test_files_and_folders(archive: Path) -> None:
    files = {"a/1.jpeg": b"one", "a/2.jpeg": b"", "b/c/3.jpeg": bytes(200_000)}
    archive.write_bytes(tar_gz(files))
    out = unpack(archive, archive.parent / "out")
    assert _files(archive.parent / "out") == files
    assert (out.entries, out.bytes, out.folder) == (6, 200_003, archive.parent / "out")


def test_a_plain_tar_and_a_real_chunk(archive: Path, shared_data: Path) -> None:
    chunk = shared_data / "release/train_300k/chunk_0.tar.gz"
    unpack(chunk, archive.parent / "packed")
    archive.write_bytes(gzip.decompress(chunk.read_bytes()))
    unpack(archive, archive.parent / "plain")
    with tarfile.open(chunk) as reference:
        expected = {
            member.name: reference.extractfile(member).read()  # type: ignore[union-attr]
            for member in reference
            if member.isfile()
        }
    assert _files(archive.parent / "packed") == _files(archive.parent / "plain") == expected


def test_names_with_dots_and_long_ones(archive: Path) -> None:
    long = "x" * 120 + "/" + "y" * 150 + ".jpeg"
    archive.write_bytes(tar_gz([entry("./", kind=tarfile.DIRTYPE), entry("./a//b.jpeg", b"b")]))
    unpack(archive, archive.parent / "dots")
    assert _files(archive.parent / "dots") == {"a/b.jpeg": b"b"}
    archive.write_bytes(tar_gz({long: b"l"}))
    unpack(archive, archive.parent / "long")
    assert _files(archive.parent / "long") == {long: b"l"}


def test_rights_and_owners_are_not_taken_over(archive: Path) -> None:
    info, content = entry("a/run", b"#!")
    info.mode, info.uid, info.gid = 0o6777, 12345, 12345
    archive.write_bytes(tar_gz([(info, content)]))
    unpack(archive, archive.parent / "out")
    status = (archive.parent / "out/a/run").stat()
    assert status.st_mode & 0o7111 == 0
    assert status.st_uid == os.getuid()


def test_a_name_that_comes_twice_keeps_its_last_content(archive: Path) -> None:
    archive.write_bytes(
        tar_gz(
            [entry("a", b"1"), entry("b", b"b"), link("c", "b"), entry("a", b"2"), entry("c", b"3")]
        )
    )
    unpack(archive, archive.parent / "out")
    assert _files(archive.parent / "out") == {"a": b"2", "b": b"b", "c": b"3"}


def test_single_top_folder_that_is_not_kept(archive: Path) -> None:
    drop = frozenset({"msvd"})
    for number, (files, folder) in enumerate(
        [
            ({"msvd/a/1": b"1", "msvd/b/1": b"2"}, "msvd"),
            ({"msvd/a/1": b"1", "b/1": b"2"}, ""),
            ({"msrvtt/a/1": b"1"}, ""),
            ({"msvd": b"a file"}, ""),
        ]
    ):
        archive.write_bytes(tar_gz(files))
        into = archive.parent / f"out{number}"
        assert unpack(archive, into, drop=drop).folder == into / folder


# What is refused.


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../out.txt", "a/../../out.txt", "a/..", "c:\\x", "c:/x", "a\\..\\b"]
)
def test_archive_that_tries_to_write_outside(archive: Path, name: str) -> None:
    message = _refusal(archive, entry(name, b"x"))
    assert message == (
        f"{archive}: refused, {name!r} is not safe (its path leads outside the folder)"
    )


@pytest.mark.parametrize("target", ["/etc", "..", "../there", "a/../..", ""])
def test_link_out_of_the_folder(archive: Path, target: str) -> None:
    message = _refusal(archive, entry("a/file"), link("way", target))
    assert message.endswith(f"'way' is not safe (links to {target!r}, outside the folder)")


def test_links_that_lead_out_only_together(archive: Path) -> None:
    """a/x -> y/../.. stays inside as long as a/y is not there; a/y -> ../b then turns it."""
    chain = [entry("b/file"), link("a/c/x", "y/../.."), link("a/c/y", "../../b")]
    assert "'a/c/x' is not safe (links to 'y/../..', outside the folder)" in _refusal(
        archive, *chain
    )


def test_link_out_of_the_folder_that_is_kept(archive: Path) -> None:
    archive.write_bytes(tar_gz([entry("msvd/a"), link("msvd/up", "..")]))
    with pytest.raises(ArchiveError, match="outside the folder"):
        unpack(archive, archive.parent / "out", drop=frozenset({"msvd"}))


def test_links_in_a_circle(archive: Path) -> None:
    assert "'a' is not safe (links to 'a', in a circle)" in _refusal(archive, link("a", "a"))
    again = archive.parent / "again"
    archive.write_bytes(tar_gz([link("a", "b"), link("b", "a")]))
    with pytest.raises(ArchiveError, match="in a circle"):
        unpack(archive, again)


def test_nothing_is_written_through_a_link(archive: Path) -> None:
    message = _refusal(archive, entry("a/file"), link("b", "a"), entry("b/file", b"through"))
    assert "'b' is not safe (both a folder and something else)" in message
    assert (archive.parent / "out/a/file").read_bytes() == b""


def test_links_inside_are_kept(archive: Path) -> None:
    hard = link("a/hard", "a/file", tarfile.LNKTYPE)
    archive.write_bytes(tar_gz([entry("a/file", b"f"), link("b/soft", "../a/file"), hard]))
    out = archive.parent / "out"
    unpack(archive, out)
    assert (out / "b/soft").is_symlink()
    assert _files(out) == dict.fromkeys(["a/file", "a/hard", "b/soft"], b"f")


@pytest.mark.parametrize("target", ["../mine", "/etc/passwd", "nosuch", "soft", "a", "b/x"])
def test_hard_link_to_what_is_no_file_of_the_archive(archive: Path, target: str) -> None:
    hard = link("hard", target, tarfile.LNKTYPE)
    message = _refusal(archive, entry("a/file"), link("soft", "a/file"), link("b", "a"), hard)
    assert f"'hard' is not safe (links to {target!r}, " in message


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"Z"])
def test_devices_and_pipes(archive: Path, kind: bytes) -> None:
    message = _refusal(archive, entry("dev", kind=kind))
    assert message.endswith("'dev' is not safe (a device, pipe or other special entry)")


def test_a_file_where_a_folder_is(archive: Path) -> None:
    assert "both a folder" in _refusal(archive, entry("a/b"), entry("a", b"x"))


def test_a_name_too_long_for_the_disk(archive: Path) -> None:
    assert "an entry's name is not possible here" in _refusal(archive, entry("n" * 300))


# Where it stops.


def test_bomb_stops_at_the_limit_of_bytes(archive: Path) -> None:
    bomb = [entry(f"{n}", bytes(1 << 20)) for n in range(8)]
    message = _refusal(archive, *bomb, limits=Limits(max_bytes=3 << 20))
    assert "unpacks to over 3,145,728 bytes; stopped" in message
    assert sum(path.stat().st_size for path in (archive.parent / "out").iterdir()) == 3 << 20


def test_bomb_stops_before_a_file_that_is_too_large(archive: Path) -> None:
    info, _ = entry("huge")
    info.size = 1 << 60  # so says its header; there is no content
    archive.write_bytes(gzip.compress(info.tobuf() + bytes(1024)))
    with pytest.raises(ArchiveError, match="over 64,000,000,000 bytes"):
        unpack(archive, archive.parent / "out")
    assert not any((archive.parent / "out").iterdir())


def test_bomb_stops_at_the_limit_of_entries(archive: Path) -> None:
    message = _refusal(
        archive, *[entry(f"a/{n}") for n in range(50)], limits=Limits(max_entries=10)
    )
    assert "over 10 entries (at 'a/9'); stopped" in message
    deep = entry("/".join("d" * 20))
    assert "over 10 entries" in _refusal_again(archive, deep, Limits(max_entries=10))


def _refusal_again(archive: Path, one: Entry, limits: Limits) -> str:
    archive.write_bytes(tar_gz([one]))
    with pytest.raises(ArchiveError) as caught:
        unpack(archive, archive.parent / "again", limits)
    return str(caught.value)


def test_bomb_stops_at_the_ratio(archive: Path) -> None:
    """Zeros shrink about a thousandfold; from 64 MiB on that is minded, wherever they stand."""
    for number, zeros in enumerate(
        [tar({"zeros": bytes(80 << 20)}), tar({"file": b""}) + bytes(80 << 20)]
    ):
        archive.write_bytes(gzip.compress(zeros, compresslevel=1))
        with pytest.raises(ArchiveError, match="unpacks to over 100 times its size"):
            unpack(archive, archive.parent / f"out{number}")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE])
def test_a_header_that_fills_the_memory(archive: Path, kind: bytes) -> None:
    message = _refusal(archive, entry("pax", bytes(1 << 20), kind), entry("file"))
    assert "an entry's header is over 16,384 bytes" in message


# What is damaged.


def test_truncated_gzip(archive: Path) -> None:
    content = os.urandom(50_000)
    whole = tar_gz({"a/1": content, "a/2": content[::-1]})
    for number, cut in enumerate([len(whole) // 3, len(whole) - 200, len(whole) - 4]):
        archive.write_bytes(whole[:cut])
        with pytest.raises(ArchiveError) as caught:
            unpack(archive, archive.parent / f"out{number}")
        assert str(caught.value) == (
            f"{archive}: cut off (it ends before its end mark); nothing of it is kept"
        )


def test_truncated_tar_inside_a_whole_gzip(archive: Path) -> None:
    """tar takes the first of these cuts for the end."""
    whole = tar({"a": b"1" * 512, "b": b"2" * 512})
    for number, cut in enumerate([1024, 1024 + 512, 1024 + 100, 2048, 700]):
        archive.write_bytes(gzip.compress(whole[:cut]))
        with pytest.raises(ArchiveError, match=r"cut off|damaged"):
            unpack(archive, archive.parent / f"out{number}")


def test_a_broken_header_is_not_the_end(archive: Path) -> None:
    whole = bytearray(tar({"a": b"1" * 512, "b": b"2" * 512}))
    whole[1024 + 3] ^= 1
    archive.write_bytes(gzip.compress(bytes(whole)))
    with pytest.raises(ArchiveError, match=r"damaged at byte 1,536 \(a broken header\)"):
        unpack(archive, archive.parent / "out")


def test_wrong_checksum_of_the_gzip_stream(archive: Path) -> None:
    whole = bytearray(tar_gz({"a": os.urandom(1000)}))
    whole[-6] ^= 1
    archive.write_bytes(bytes(whole))
    with pytest.raises(ArchiveError, match="damaged or not a tar archive"):
        unpack(archive, archive.parent / "out")


def test_two_archives_in_one_file(archive: Path) -> None:
    archive.write_bytes(tar_gz({"a": b"1"}) + tar_gz({"b": b"2"}))
    with pytest.raises(ArchiveError, match="more data after the end"):
        unpack(archive, archive.parent / "out")


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b", b"no tar at all", bytes(100), b"\x1f\x8bxx"])
def test_no_archive(archive: Path, content: bytes) -> None:
    archive.write_bytes(content)
    with pytest.raises(ArchiveError, match=r"cut off|damaged or not a tar"):
        unpack(archive, archive.parent / "out")


_names = st.one_of(
    st.sampled_from(["a", "b", "a/b", "b/a", "..", "../x", "/x", "a/../..", ".", "", "a//b"]),
    st.text(max_size=20),
)
_kinds = st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(_names, _kinds, _names, st.binary(max_size=30)), max_size=6))
def test_any_entries_stay_inside(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[str, bytes, str, bytes]]
) -> None:
    entries = []
    for name, kind, target, content in drawn:
        info, body = entry(name, content if kind == tarfile.REGTYPE else b"", kind)
        info.linkname = target
        entries.append((info, body))
    home = tmp_path_factory.mktemp("any")
    (home / "x").write_text("canary")
    archive = home / "any.tar"
    try:
        archive.write_bytes(tar(entries))
    except UnicodeEncodeError:
        return  # no such name can be written
    refused = ""
    try:
        unpack(archive, home / "out")
    except ArchiveError as error:
        refused = str(error)
    assert "\n" not in refused
    if not refused:
        for path in (home / "out").rglob("*"):
            assert Path(os.path.realpath(path)).is_relative_to(os.path.realpath(home / "out"))
    assert sorted(path.name for path in home.iterdir()) == ["any.tar", "out", "x"]
    assert (home / "x").read_text() == "canary"


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=2000), st.booleans())
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, content: bytes, packed: bool) -> None:
    home = tmp_path_factory.mktemp("bytes")
    (home / "any").write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(ArchiveError):
        unpack(home / "any", home / "out")


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 4000), st.integers(1, 255), st.booleans())
def test_any_damage_is_noticed_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, where: int, change: int, packed: bool
) -> None:
    """One byte of an archive changed: of a gzip, it is always noticed or of no effect."""
    files = {"a/1": b"one" * 300, "a/2": b"two" * 100}
    content = bytearray(tar_gz(files) if packed else tar(files))
    content[where % len(content)] ^= change
    home = tmp_path_factory.mktemp("damage")
    (home / "any").write_bytes(bytes(content))
    try:
        unpack(home / "any", home / "out")
    except ArchiveError:
        return
    if packed:
        assert zlib.crc32(tar(files)) == zlib.crc32(gzip.decompress(bytes(content)))
        assert _files(home / "out") == files


@pytest.mark.parametrize("depth", [70, 1500])
def test_folders_without_end(archive: Path, depth: int) -> None:
    line = _refusal(archive, entry("/".join(["d"] * depth) + "/f", b""))
    assert "over 64 folders deep" in line
    assert len(line) < 500
