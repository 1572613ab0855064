"""Download of the release from the Hub to a folder: files, then archives unpacked safely.

`download` is what `sharegptvideo data download` calls. The folder has the layout of the release:

    DIR/video_instruction/train/...       the rows, as they are on the Hub
    DIR/train_300k/chunk_0/CLIP/*.jpeg    a chunk's clips, below its archive's name
    DIR/.../msvd/CLIP/*.jpeg              a test set's clips, where its archive lies on the Hub
    DIR/raw/activitynet/chunk_0/CLIP.mp4  with `raw`, the videos in place of the frames
    DIR/allava_laion/image_chunks/...     images, likewise below their archives' names
    DIR/.sharegptvideo/                   the journal, and what is under way

so `load_dataset(NAME, data_dir=DIR, media=DIR)` reads it. Everything is whole or absent: a file
comes in under another name, is checked against the Hub's checksum and renamed; an archive is
unpacked elsewhere and its folder renamed, with a marker in it that says which archive it was.
A second run compares, and fetches what is missing. `unpack_archives` does the unpacking alone, for
archives that came in another way.
"""

from __future__ import annotations

from sharegptvideo.data.download.execute import Outcome, download, unpack_archives
from sharegptvideo.data.download.local import LocalArchive, Packing, find_archives
from sharegptvideo.data.download.plan import Item, Plan, State
from sharegptvideo.data.download.select import ALL, SOURCES
from sharegptvideo.data.download.unpack import ArchiveError, Limits, Unpacked, unpack

__all__ = [
    "ALL",
    "SOURCES",
    "ArchiveError",
    "Item",
    "Limits",
    "LocalArchive",
    "Outcome",
    "Packing",
    "Plan",
    "State",
    "Unpacked",
    "download",
    "find_archives",
    "unpack",
    "unpack_archives",
]
