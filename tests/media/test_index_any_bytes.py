"""Any bytes under the name of a clip, or of the index: facts, or one clear line."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharegptvideo.errors import UserError
from sharegptvideo.media.facts import read_facts
from sharegptvideo.media.index import INDEX_NAME, index_media, known_unreadable

HEADS = {
    "c.jpeg": [b"\xff\xd8", b"\xff\xd8\xff\xc0\x00\x11\x08", b"\xff\xd8\xff\xe1"],
    "c.png": [b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"],
    "c.webp": [b"RIFF\x10\x00\x00\x00WEBPVP8 "],
    "c.bmp": [b"BM"],
    "c.mp4": [b"\x00\x00\x00\x18ftypmp42", b""],
    "c.mkv": [b"\x1a\x45\xdf\xa3"],
    "c.gif": [b"GIF89a\x08\x00\x08\x00"],
}


@st.composite
def files(draw: st.DrawFn) -> tuple[str, bytes]:
    """A file name, and bytes that mostly begin as such a file does."""
    name = draw(st.sampled_from(list(HEADS)))
    return name, draw(st.sampled_from([*HEADS[name], b""])) + draw(st.binary(max_size=200))


@settings(max_examples=150, deadline=None)
@given(files())
def test_any_bytes_as_a_clip(file: tuple[str, bytes]) -> None:
    name, data = file
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip" / name
        path.parent.mkdir()
        path.write_bytes(data)
        picture = name.endswith((".jpeg", ".png", ".webp", ".bmp"))
        facts = read_facts(path.parent if picture else path)
        if facts.error is None:
            assert facts.width
            assert facts.height
            assert facts.frames
        else:
            assert facts[1:-1] == (None,) * 6
            assert "\n" not in facts.error
            assert folder not in facts.error


HEADER = bytearray(100)
HEADER[:16] = b"SQLite format 3\0"
HEADER[68:72] = b"sgvm"


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([b"", bytes(HEADER), b"whole"]), st.binary(max_size=300), st.booleans())
def test_any_bytes_as_the_index(head: bytes, data: bytes, version: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "clip.mp4").write_bytes(b"404")
        path = root / INDEX_NAME
        if head == b"whole":
            index_media(root)
            sound = path.read_bytes()
            path.write_bytes(sound[: 100 + len(data)] + data + sound[100 + 2 * len(data) :])
        else:
            if head and version:
                head = head[:60] + (1).to_bytes(4, "big") + head[64:]
            path.write_bytes(head + data)
        before = path.read_bytes()
        known_unreadable(root)
        if not before or head:
            assert list(index_media(root).errors) == ["clip.mp4"]
            assert [clip.path for clip in index_media(root).clips()] == ["clip.mp4"]
        else:
            with pytest.raises(UserError, match="not a media index of this package"):
                index_media(root)
            assert path.read_bytes() == before
