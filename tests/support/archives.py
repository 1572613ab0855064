"""Archives for tests: good ones, and ones that no honest program would write."""

from __future__ import annotations

import gzip
import io
import tarfile
import warnings
import zipfile
from collections.abc import Iterable, Mapping

__all__ = ["Entry", "entry", "link", "tar", "tar_gz", "zipped"]

Entry = tuple[tarfile.TarInfo, bytes]


def entry(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE) -> Entry:
    """A file, or an entry of another kind, exactly as named."""
    info = tarfile.TarInfo(name)
    info.type = kind
    info.size = len(content)
    return info, content


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> Entry:
    """A symbolic link, or with `tarfile.LNKTYPE` a hard one."""
    info, _ = entry(name, kind=kind)
    info.linkname = target
    return info, b""


def tar(entries: Iterable[Entry] | Mapping[str, bytes]) -> bytes:
    """A tar archive; a mapping gives names and contents of plain files."""
    if isinstance(entries, Mapping):
        entries = [entry(name, content) for name, content in entries.items()]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def tar_gz(entries: Iterable[Entry] | Mapping[str, bytes]) -> bytes:
    """The same, compressed; the same bytes each time."""
    return gzip.compress(tar(entries), compresslevel=1, mtime=0)


def zipped(
    entries: Iterable[tuple[str | zipfile.ZipInfo, bytes]] | Mapping[str, bytes],
    method: int = zipfile.ZIP_DEFLATED,
) -> bytes:
    """A zip archive; names as they are given, twice too; the same bytes each time."""
    if isinstance(entries, Mapping):
        entries = list(entries.items())
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", method) as archive:
        warnings.simplefilter("ignore")  # of a name that comes twice
        for name, content in entries:
            info = zipfile.ZipInfo(name) if isinstance(name, str) else name
            archive.writestr(info, content, method)
    return out.getvalue()
