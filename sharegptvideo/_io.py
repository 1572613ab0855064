"""Read and write files: atomic writes, JSONL by line number, append-only logs, clear OS errors."""

from __future__ import annotations

import codecs
import contextlib
import errno
import gzip
import hashlib
import io
import json
import os
import re
import stat
import time
import uuid
import zlib
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Literal

from sharegptvideo.errors import UserError

if TYPE_CHECKING:
    import yaml

__all__ = [
    "FULL_DISK",
    "NO_RIGHTS",
    "Action",
    "KeyedLog",
    "LatestRows",
    "RowCheck",
    "cache_folder",
    "dumps",
    "follow_umask",
    "full_disk_errors",
    "is_full_disk",
    "kind_of",
    "making",
    "numbered_lines",
    "open_lines",
    "os_error_line",
    "os_error_words",
    "os_errors",
    "parse_json",
    "parse_row",
    "parse_yaml",
    "read_json",
    "read_json_object",
    "read_jsonl",
    "read_text",
    "replacing",
    "replacing_bytes",
    "sha256_file",
    "sha256_text",
    "sync_folder",
    "write_json",
    "write_jsonl",
    "write_text",
]

Row = dict[str, Any]
RowCheck = Callable[[str, Mapping[str, Any]], None]


def cache_folder() -> Path:
    """Return the folder of what can be made again: `SHAREGPTVIDEO_CACHE`, or the user's cache.

    Without the variable it is `sharegptvideo` below `XDG_CACHE_HOME` or `~/.cache`.
    """
    own = os.environ.get("SHAREGPTVIDEO_CACHE")
    if own:
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "sharegptvideo"


def dumps(value: object) -> str:
    """Dump a value as one line of JSON in UTF-8; NaN is refused, as other readers refuse it.

    A text with half a surrogate pair, which is not UTF-8 but which a model can give, is escaped.
    """
    line = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if _HALF_PAIR.search(line):
        return json.dumps(value, allow_nan=False)
    return line


_HALF_PAIR = re.compile("[\ud800-\udfff]")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[str]]:
    """Open a temporary text file beside `path` that replaces it, synced, when the block succeeds.

    On an error or an interrupt the temporary file is removed and `path` stays as it was. What
    killed processes left is removed: of `path` itself at once, else when it is a day old.
    """
    with replacing_bytes(path) as file:
        # Halves of surrogate pairs, as of paths that are not UTF-8, are escaped as JSON has them.
        text = io.TextIOWrapper(file, "utf-8", errors="backslashreplace", newline="\n")
        yield text
        text.detach()  # flushes; the file stays open for its sync


@contextlib.contextmanager
def replacing_bytes(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file of bytes beside `path`; in all else as `replacing`."""
    with making(path.parent):
        _sweep(path)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
        # Not by `tempfile`, whose files are private: this one gets the mode of any new file.
        with _blamed_on(path):
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        _lock(handle)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_folder(path.parent)
        except BaseException as error:  # Ctrl-C too: nothing half-written stays
            temporary.unlink(missing_ok=True)
            # What is refused to an open file has no name, else it is the temporary one's.
            if (
                isinstance(error, OSError)
                and error.errno in _FIXES
                and error.filename in {None, str(temporary)}
            ):
                error.filename, error.filename2 = str(path), None
            raise


@contextlib.contextmanager
def making(folder: Path) -> Iterator[None]:
    """Make a folder and those above it; an error in the block removes those that stay empty."""
    made = [above for above in (folder, *folder.parents) if not os.path.exists(above)]  # noqa: PTH110  # never raises
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:  # Ctrl-C too: no empty folder is left, then it is raised on
        for above in made:
            with contextlib.suppress(OSError):  # not made after all, or someone wrote into it
                above.rmdir()
        raise


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, so that a rename outlives a power cut."""
    with contextlib.suppress(OSError):  # a system or file system that cannot
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


_LEFT_OVER = re.compile(r"\.(.+)\.[0-9a-f]{8}\.tmp", re.DOTALL)
_DAY = 24 * 3600
# Folders that this process has written into, each with the younger temporary files that it had
# then: once is enough, and folders can be large.
_swept: dict[Path, list[Path]] = {}


def _sweep(path: Path) -> None:
    """Remove temporary files of `replacing` that no process is writing any more.

    Those of `path` are locked while they are written. Those of other files have to be a day old:
    some file systems let another machine's locks go unseen.
    """
    folder = path.parent.absolute()
    if folder not in _swept:
        young = _swept[folder] = []
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if _LEFT_OVER.fullmatch(entry.name):
                    with contextlib.suppress(OSError):
                        if time.time() - entry.stat(follow_symlinks=False).st_mtime > _DAY:
                            Path(entry).unlink()
                        else:
                            young.append(Path(entry))
    for temporary in _swept[folder]:
        named = _LEFT_OVER.fullmatch(temporary.name)
        if named and named[1] == path.name:
            with contextlib.suppress(OSError):
                handle = os.open(temporary, os.O_WRONLY)
                try:
                    if _lock(handle):
                        temporary.unlink()
                finally:
                    os.close(handle)


def _lock(handle: int) -> bool:
    """Lock an open file until it is closed; False where another holds it, or nothing can."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):  # Windows; a file system without locks
        return False
    return True


@contextlib.contextmanager
def _blamed_on(path: Path) -> Iterator[None]:
    """Name `path` in an OSError in place of a temporary file, or of no file at all."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


# What free space cures: a full disk, a quota that is used up, a limit on the size of files.
FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
NO_RIGHTS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
# The errors that a file system gives, each with the fix that is shown where the caller names none;
# empty where the system's words say enough. Others, such as a network's, are not translated.
_FIXES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "",
    errno.EACCES: "change its permissions or name another place",
    errno.EPERM: "change its permissions or name another place",
    errno.EROFS: "name a place on another disk",
    errno.ENOENT: "",
    errno.ENOTDIR: "a file stands where a folder is needed",
    errno.EISDIR: "a folder stands where a file is needed",
    errno.EEXIST: "move it away or name another place",
    errno.ENOTEMPTY: "move it away or name another place",
    errno.ENAMETOOLONG: "use a shorter name",
    errno.EINVAL: "the file system there does not support this; name another place",
    errno.EILSEQ: "the file system there does not take this name; use another",
    errno.ELOOP: "its links lead back to themselves; remove one",
    errno.EXDEV: "name a place on the same disk",
    errno.EBUSY: "another process uses it; wait for its end",
    errno.ETXTBSY: "another process uses it; wait for its end",
    errno.ENOLCK: "the file system there has no locks; name a place on another disk",
    errno.EOPNOTSUPP: "the file system there does not support this; name another place",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "raise the limit on open files (sysctl fs.file-max)",
    errno.ENXIO: "",
    errno.ENODEV: "",
    errno.EIO: "check the disk",
    errno.ESTALE: "mount the network folder again",
}
# safetensors and torch put the system's words into errors of their own, which are no OSErrors.
_FULL_WORDS = (*(os.strerror(code).lower() for code in FULL_DISK), "failed writing file")

Action = Literal["written", "made", "read", "opened", "listed", "used"]


@contextlib.contextmanager
def os_errors(
    place: Path | str,
    hint: str = "",
    *,
    action: Action = "written",
    raises: type[UserError] = UserError,
    exit_code: int | None = None,
) -> Iterator[None]:
    """Turn an error of the file system inside the block into one line: place, cause, fix.

    Errors that are none of a file system, such as a lost connection, pass.

    Args:
        place: the path that the block is about, or a phrase where none is known. Of a folder,
            the line names the file in it that was refused, if it is more than a temporary one.
        hint: the fix, such as "give another --out"; by default one that goes with the cause.
        action: what could not be done with the place.
        raises: the kind of error to raise.
        exit_code: by default 1 where writing failed, 2 where a name that was given is wrong.

    Raises:
        UserError: the file system refused something, or the disk is full.
    """
    try:
        yield
    except OSError as error:
        line = os_error_line(error, place, hint, action)
        if line is None:
            raise
        if exit_code is None:
            exit_code = 1 if action == "written" or error.errno in FULL_DISK else 2
        raise raises(line, exit_code=exit_code) from error


def os_error_line(
    error: OSError, place: Path | str, hint: str = "", action: Action = "written"
) -> str | None:
    """Return the line that `os_errors` raises, or None if no file system gave the error.

    >>> os_error_line(FileNotFoundError(errno.ENOENT, "", "a.yaml"), "a.yaml", action="read")
    'a.yaml: cannot be read (No such file or directory)'
    """
    if error.errno not in _FIXES:
        return None
    # A limit on the size of files has no fix of its own: then the system's words say more.
    if error.errno in FULL_DISK and (hint or _FIXES[error.errno]):
        return f"{place}: the disk is full; {hint or _FIXES[error.errno]}"
    refused, related = _refused(error, place)
    if not related:  # neither the action nor the hint is about that file
        hint, action = "", "used"
    fix = hint or _FIXES[error.errno]
    return f"{refused}: cannot be {action} ({os_error_words(error)})" + (f"; {fix}" if fix else "")


def _refused(error: OSError, place: Path | str) -> tuple[Path | str, bool]:
    """Return the file to name in a line about `place`, and whether it belongs to that place."""
    if not isinstance(error.filename, str | os.PathLike):
        return place, True
    file = Path(error.filename)
    if isinstance(place, str):
        return file, True
    there, here = file.absolute(), place.absolute()
    if there == here or there in here.parents or _is_unfinished(there, here):
        return place, True
    inside = here in there.parents
    return (place if inside and error.errno in FULL_DISK else file), inside


def _is_unfinished(file: Path, place: Path) -> bool:
    """Return whether a file is, or lies in, a temporary one of a place, hidden until whole."""
    if place in file.parents:
        return any(part.startswith(".") for part in file.relative_to(place).parts)
    if place.parent in file.parents:
        return file.relative_to(place.parent).parts[0].startswith(f".{place.name}.")
    return False


def os_error_words(error: OSError) -> str:
    """Return an OSError's cause in the system's words; libraries put sentences in their place.

    >>> os_error_words(OSError(errno.EFBIG, "Error writing bytes to file. Detail: [errno 27]"))
    'File too large'
    """
    if error.errno is not None and error.errno in errno.errorcode:
        return os.strerror(error.errno)
    lines = str(error.strerror or error).split("\n")
    return lines[0] or type(error).__name__


def is_full_disk(error: BaseException | None) -> bool:
    """Return whether a full disk caused an error, also one of a library's own kind."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL_DISK:
            return True
        words = str(error).lower()
        if not isinstance(error, OSError) and any(w in words for w in _FULL_WORDS):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextlib.contextmanager
def full_disk_errors(place: Path | str, hint: str) -> Iterator[None]:
    """Turn a disk that fills up inside the block into one line; all other errors pass.

    For blocks in which libraries write, whose errors hold the system's words but are no OSErrors.

    Raises:
        UserError: the disk is full.
    """
    try:
        yield
    except UserError:
        raise  # a line already
    except Exception as error:  # each library has its own kinds; others than a full disk pass
        if not is_full_disk(error):
            raise
        raise UserError(f"{place}: the disk is full; {hint}", exit_code=1) from error


def follow_umask(files: Iterable[Path]) -> None:
    """Give files the mode of new ones; safetensors writes files that only their owner may read."""
    mode = 0o666 & ~_umask()
    for file in files:
        if file.is_file() and stat.S_IMODE(file.stat().st_mode) != mode:
            file.chmod(mode)


def _umask() -> int:
    """Return the process's umask, without changing it where the system says what it is."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name == "Umask":
                return int(value, 8)
    current = os.umask(0)
    os.umask(current)
    return current


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with replacing(path) as file:
        file.write(text)


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, ensure_ascii=False, allow_nan=False, indent=2) + "\n")


def write_jsonl(path: Path, rows: Iterable[Row]) -> int:
    """Write one JSON object a line, whole or not at all, and return how many."""
    count = 0
    with replacing(path) as file:
        for row in rows:
            file.write(dumps(row) + "\n")
            count += 1
    return count


def _content(path: Path, hint: str = "") -> bytes:
    """Read a whole file, unpacked where it is gzip data, up to a limit."""
    with open_lines(path, hint) as file:
        try:
            content = file.read(_MAX_CONTENT + 1)
        except EOFError as error:
            raise UserError(f"{path}: gzip data cut short; fetch the file again") from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise UserError(f"{path}: damaged gzip data ({error})") from error
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({os_error_words(error)})") from error
    if len(content) > _MAX_CONTENT:
        raise UserError(f"{path}: over {_MAX_CONTENT:,} bytes; too long to be read whole")
    return content


_MAX_CONTENT = 1 << 30  # bytes; lists of a million answers have less


def read_text(path: Path, hint: str = "") -> str:
    """Read a text in UTF-8; a byte order mark before it is skipped.

    Raises:
        UserError: the file cannot be read, `hint` says what to do then, or is not UTF-8.
    """
    content = _content(path, hint)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: {_not_utf8(content, error)}") from error


def read_json(path: Path, *, finite: bool = False) -> Any:
    """Read a JSON file; a mark of byte order before it is skipped; `finite` as of `parse_json`.

    Raises:
        UserError: the file is missing or is not JSON; says which and, if broken, the line.
    """
    content = _content(path)
    try:
        return parse_json(content.decode("utf-8-sig"), finite=finite)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: {_not_utf8(content, error)}") from error
    except json.JSONDecodeError as error:
        cause = _ZEROS if b"\0" in content else f"not JSON ({error.msg})"
        raise UserError(f"{path}:{error.lineno}: {cause}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({_beyond(error)})") from error


def read_json_object(path: Path) -> Row:
    """Read a JSON file that holds one object; see `read_json`.

    Raises:
        UserError: also where it holds a list, a text or a number.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: {kind_of(content)}, not an object")
    return content


def read_jsonl(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield `(line number from 1, row)` for each line that is not blank; gzip is unpacked.

    Raises:
        UserError: `FILE:LINE: cause` for a line that is not a JSON object in UTF-8, and where
            gzip data are cut short or damaged.
    """
    with open_lines(path) as file:
        for number, line in numbered_lines(path, file):
            yield number, parse_row(path, number, line)


def open_lines(path: Path, hint: str = "") -> IO[bytes]:
    """Open a file for reading bytes, unpacked where it begins as gzip does, whatever its name.

    A `.jsonl.gz` may come unpacked already, since servers send gzip as an encoding that
    clients take off.

    Raises:
        UserError: the file is a pipe or cannot be opened; `hint` says what to do then.
    """
    with os_errors(path, hint, action="read"):
        _refuse_pipe(path)
        file = path.open("rb")
        if file.peek(2)[:2] != _GZIP:
            return file
    # In blocks of a size of ours: `GzipFile` itself is slow to give single lines.
    return io.BufferedReader(_Unpacked(file), 1 << 16)


class _Unpacked(gzip.GzipFile):
    """Unpacks a file and closes it too; `GzipFile` leaves open what it did not open."""

    def __init__(self, file: IO[bytes]) -> None:
        self._packed = file
        super().__init__(fileobj=file, mode="rb")

    def close(self) -> None:
        super().close()
        self._packed.close()


def _refuse_pipe(path: Path) -> None:
    """Refuse what may never end or cannot be read twice; a folder has its own error."""
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UserError(f"{path}: a pipe or a device; write its contents to a file and name that")


_MAX_LINE = 64 << 20  # bytes; few bytes of gzip can unpack to a line that fills the memory


def numbered_lines(path: Path | str, lines: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield `(number from 1, line)` of the lines of a file that are not blank.

    Raises:
        UserError: a line is over 64 MiB, or reading fails on the way, such as at the end of gzip
            data cut short; says after which line. What is lost there cannot be counted, so it is
            never skipped.
    """
    number = 0
    try:
        for number, line in enumerate(iter(lambda: lines.readline(_MAX_LINE + 1), b""), start=1):
            if len(line) > _MAX_LINE:
                raise UserError(f"{path}:{number}: a line of over {_MAX_LINE:,} bytes")
            if line.strip():
                yield number, line
    except EOFError as error:
        raise _unreadable(path, number, "gzip data cut short; fetch the file again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        cause = f"damaged gzip data ({error}); fetch the file again"
        raise _unreadable(path, number, cause) from error
    except OSError as error:
        raise _unreadable(path, number, f"cannot be read ({os_error_words(error)})") from error


def _unreadable(path: Path | str, number: int, cause: str) -> UserError:
    return UserError(f"{path}: {cause} (after line {number})")


def parse_row(path: Path | str, number: int, line: bytes, *, finite: bool = False) -> Row:
    """Parse the JSON object on line `number` of `path`; a byte order mark before it is skipped.

    Such a mark may stand before any line, where files were concatenated. `finite` as of
    `parse_json`.

    Raises:
        UserError: `FILE:LINE: cause` where the line is not a JSON object in UTF-8.
    """
    try:
        # The end of the line is no part of the row, and would be in the cause of a broken one.
        row = parse_json(line.rstrip(b"\r\n").decode("utf-8-sig"), finite=finite)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}:{number}: {_not_utf8(line, error)}") from error
    except (ValueError, RecursionError) as error:
        if b"\0" in line:
            raise UserError(f"{path}:{number}: {_ZEROS}") from error
        cause = error.msg if isinstance(error, json.JSONDecodeError) else _beyond(error)
        raise UserError(f"{path}:{number}: not JSON ({cause}); fix or remove the line") from error
    if not isinstance(row, dict):
        raise UserError(f"{path}:{number}: {kind_of(row)}, not an object")
    return row


def kind_of(value: object) -> str:
    """Return what a value of JSON is, in words: `null`, `a number`, `an object`."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    kinds = {str: "a text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return kinds.get(type(value), f"a value of the type {type(value).__name__}")


class _RefusedError(ValueError):
    """What Python's reader would take: a key twice in one object, a number that is none."""


def _unique(pairs: list[tuple[str, Any]]) -> Row:
    values = dict(pairs)
    if len(values) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in values if names.count(name) > 1)
        raise _RefusedError(f"the key {dumps(twice[:80])} stands twice")
    return values


def _no_number(name: str) -> None:
    raise _RefusedError(f"{name} is no number of JSON; write null")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)
_FINITE_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_number)


def parse_json(text: str, *, finite: bool = False) -> Any:
    """Parse a JSON text; a key that stands twice in an object is an error.

    With `finite` NaN and Infinity are errors too, as JSON has it; many programs write them.

    Raises:
        ValueError: it is not JSON.
        RecursionError: it is nested too deeply.
    """
    return (_FINITE_DECODER if finite else _DECODER).decode(text)


_MAX_YAML_NODES = 10_000  # with each alias counted as all that it stands for
_MAX_YAML_CHARACTERS = 1 << 20  # a minute's work for the parser; ours have a few thousand
_MAX_YAML_NUMBER = 2**63


def parse_yaml(where: str, text: str) -> Any:
    """Parse a YAML text; `where` names it in the error.

    Raises:
        UserError: it is not YAML, or names an impossible value such as the 40th of May; a key
            stands twice in a mapping, a number is infinite or has over 64 bits, or aliases
            unfold to more than they can have been meant for.
    """
    import yaml

    if len(text) > _MAX_YAML_CHARACTERS:
        raise UserError(f"{where}: over {_MAX_YAML_CHARACTERS:,} characters; is it the right file?")
    try:
        loader = yaml.SafeLoader(text)  # refuses signs that no text holds
        node = loader.get_single_node()
        if node is None:
            return None
        _YamlCheck(where, loader).size_of(node)
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{where}: not YAML ({' '.join(str(error).split())})") from error
    except (AttributeError, LookupError) as error:  # of yaml's constructors, as for `!!bool maybe`
        raise UserError(f"{where}: not YAML (a value that its tag does not fit)") from error
    except RecursionError as error:
        raise UserError(f"{where}: not YAML (nested too deeply)") from error


class _YamlCheck:
    """Refuses what YAML allows and no file can have meant; see `parse_yaml`.

    Nodes are yaml's, whose attribute `id` its stubs lack.
    """

    def __init__(self, where: str, loader: yaml.SafeLoader) -> None:
        self._where, self._loader = where, loader
        self._sizes: dict[int, int] = {}  # of nodes; 0 while what is in one is looked at
        self._aliases = False

    def size_of(self, node: Any) -> int:
        """Return how many values a node unfolds to; long texts count for more."""
        known = self._sizes.get(id(node))
        if known is not None:
            self._aliases = True
            if not known:
                raise self._refused(node, "an alias stands inside of what it names; write it out")
            return known
        self._sizes[id(node)] = 0
        if node.id == "mapping":
            self._check_keys(node)
            size = 1 + sum(self.size_of(part) for pair in node.value for part in pair)
        elif node.id == "sequence":
            size = 1 + sum(map(self.size_of, node.value))
        else:
            self._check_number(node)
            size = 1 + len(node.value) // 100
        if self._aliases and size > _MAX_YAML_NODES:
            raise self._refused(node, "its aliases unfold to too many values; write them out")
        self._sizes[id(node)] = size
        return size

    def _check_keys(self, node: Any) -> None:
        seen: set[tuple[str, str]] = set()
        for key in (key for key, _ in node.value if key.id == "scalar"):
            if (key.tag, key.value) in seen:
                raise self._refused(key, f"the key {key.value[:80]} stands twice; remove one")
            seen.add((key.tag, key.value))

    def _check_number(self, node: Any) -> None:
        if node.tag in _YAML_NUMBERS:
            number = self._loader.construct_object(node)
            if not abs(number) < _MAX_YAML_NUMBER:  # infinite, or no number at all
                raise self._refused(node, f"{node.value[:40]} is no number that can be used")

    def _refused(self, node: Any, cause: str) -> UserError:
        return UserError(f"{self._where}: line {node.start_mark.line + 1}: {cause}")


_YAML_NUMBERS = {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}
_GZIP = b"\x1f\x8b"
# Text with a zero byte at every other place is UTF-16 without a mark; JSON has no zero bytes.
_ZEROS = "UTF-16 text, or no text at all; save the file as UTF-8"


def _not_utf8(content: bytes, error: UnicodeDecodeError) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "UTF-16 text; save the file as UTF-8"
    if b"\0" in content:
        return _ZEROS
    return f"not UTF-8 text (byte {error.start})"


def _beyond(error: Exception) -> str:
    """Say why well-formed JSON is refused: Python limits its depth and an integer's digits."""
    if isinstance(error, _RefusedError):
        return str(error)
    return "nested too deeply" if isinstance(error, RecursionError) else "an endless number"


class KeyedLog:
    """An append-only JSONL file keyed by one or more columns: the finished rows of a step.

    Opening reads what is there; a line that a crash tore off at the end is cut away. A key
    written twice keeps its last row. Each `append` is one write, flushed to the system, so a
    killed process loses at most the line it was writing. With several key columns, the key in
    `rows` is their values joined by `/`, as `key_of` gives it. `check` is given the place and the
    row of each line that is there, and refuses one by a UserError.
    """

    def __init__(
        self,
        path: Path,
        key: str | tuple[str, ...] = "id",
        check: RowCheck | None = None,
        *,
        may_write: Callable[[], bool] = lambda: True,
        keep: Callable[[Row], Any] | None = lambda row: row,
    ) -> None:
        """Read the rows of `path`, and open it for more.

        Until `may_write` says so, rows are held in memory, and the file is neither made nor
        changed. `rows` holds what `keep` returns of each row: all of it, or what is needed. With
        `keep=None` it stays empty, for files whose keys alone would fill the memory.
        """
        self.path = path
        self._check = check
        self.key = (key,) if isinstance(key, str) else key
        self.rows: dict[str, Any] = {}
        self._keep = keep
        self._may_write = may_write
        self._held: deque[bytes] = deque()
        self._file: io.FileIO | None = None
        with making(path.parent):
            self._ended = self._read()
            if may_write():
                self._file = self._opened()

    def _opened(self) -> io.FileIO:
        """Open the file and end it after its last whole line."""
        file = self.path.open("ab", buffering=0)
        if self._ended != os.fstat(file.fileno()).st_size:
            file.truncate(self._ended)
        if self._ended and not self._ends_line:
            file.write(b"\n")
        return file

    def key_of(self, row: Row) -> str:
        """Return the key of a row, as `rows` holds it."""
        return "/".join(str(row[name]) for name in self.key)

    def _read(self) -> int:
        """Read the rows and return how many bytes hold them, without a line torn off at the end.

        Nothing is changed yet: a file of another kind is refused and left as it is.
        """
        ended, self._ends_line = 0, True
        if not self.path.exists():
            return ended
        _refuse_pipe(self.path)
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    try:
                        row = parse_row(self.path, number, line)
                    except UserError:
                        if not _is_torn(line):
                            raise
                        break
                    self._take(number, row)
                ended += len(line)
                self._ends_line = line.endswith(b"\n")
        return ended

    def _take(self, number: int, row: Row) -> None:
        absent = next((name for name in self.key if name not in row), None)
        if absent:
            raise UserError(f"{self.path}:{number}: no {absent!r}; is this another kind of file?")
        if self._check is not None:
            self._check(f"{self.path}:{number}", row)
        self._remember(row)

    def _remember(self, row: Row) -> None:
        if self._keep is not None:
            self.rows[self.key_of(row)] = self._keep(row)

    def append(self, row: Row) -> None:
        """Add one row, which counts as done from here on."""
        self._held.append((dumps(row) + "\n").encode())
        if self._may_write():
            self.write_held()
        self._remember(row)

    def write_held(self) -> None:
        """Write the rows that were held in memory."""
        with _blamed_on(self.path):
            if self._file is None:
                self._file = self._opened()
            while self._held:
                line = self._held.popleft()
                written = self._file.write(line)
                if written != len(line):  # what a disk does that is nearly full
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def __contains__(self, key: object) -> bool:
        return key in self.rows

    def __len__(self) -> int:
        return len(self.rows)

    def close(self) -> None:
        """Sync to disk and close; rows that may still not be written are dropped."""
        if self._held and self._may_write():
            self.write_held()
        if self._file is not None and not self._file.closed:
            os.fsync(self._file.fileno())
            self._file.close()

    def __enter__(self) -> KeyedLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class LatestRows:
    """The rows of a `KeyedLog`'s file by `id`: of each its last line, in the order of these lines.

    Each iteration reads the file, which may be larger than memory: that holds nine bytes a line.
    A line that is torn off at the end, or still being written, is left out.
    """

    def __init__(self, path: Path) -> None:
        """Find the last line of each `id`.

        Raises:
            UserError: a line is broken or has no `id`; says where.
        """
        import numpy as np

        self.path = path
        ids = array("q")
        for number, line in self._lines():
            row = parse_row(path, number, line)
            if "id" not in row:
                raise UserError(f"{path}:{number}: no 'id'; is this another kind of file?")
            ids.append(hash(str(row["id"])))
        hashes = np.frombuffer(ids, dtype=np.int64)[::-1]
        _, places = np.unique(hashes, return_index=True)
        self._is_latest = bytearray(len(ids))
        for place in places:
            self._is_latest[len(ids) - 1 - place] = 1
        self._count = len(places)

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        with open_lines(self.path) as file:
            for number, line in numbered_lines(self.path, file):
                if not line.endswith(b"\n") and _is_torn(line):
                    try:
                        parse_row(self.path, number, line)
                    except UserError:
                        return
                yield number, line

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Row]:
        for (number, line), is_latest in zip(self._lines(), self._is_latest, strict=False):
            if is_latest:
                yield parse_row(self.path, number, line)


def _is_torn(line: bytes) -> bool:
    """Return whether a line is the beginning of an object, or what a power cut leaves."""
    return not line.endswith(b"\n") and line.strip(b"\0")[:1] in (b"{", b"")


def sha256_file(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_text(text: str) -> str:
    """Return the hex SHA-256 of a text in UTF-8; halves of surrogate pairs count as they are."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
