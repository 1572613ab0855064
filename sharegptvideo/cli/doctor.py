"""`sharegptvideo doctor`: what an installation has, what it lacks, and the fix."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer

from sharegptvideo._concurrency import SMALL_MODEL, given_cores, limit_torch_threads
from sharegptvideo._install import install_line
from sharegptvideo._io import cache_folder, os_error_words
from sharegptvideo._text import byte_size, plural, visible
from sharegptvideo.cli._common import JsonOption, echo, print_json

__all__ = ["Finding", "core_figures", "doctor", "examine"]

_DISK_NEEDED = 2_000_000_000  # the demo's output and what it decodes, with room to spare
_EXTRAS = {
    "train": "train models",
    "eval": "run models, judge through endpoints",
    "ray": "build with --engine ray",
    "lmms-eval": "run the tasks under lmms-eval",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """The state of one part of the installation, and the fix if it is not `ok`.

    Only what is `needed` makes an installation unfit; the rest is for some uses.
    """

    name: str
    ok: bool
    needed: bool
    state: str
    fix: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the finding as `--json` prints it; scripts rely on its keys."""
        return {
            "name": self.name,
            "ok": self.ok,
            "needed": self.needed,
            "found": self.state,
            "mend": self.fix,
        }


def examine() -> list[Finding]:
    """Check Python, cores, packages, video libraries, GPU, endpoint, cache folder and disk.

    Takes some seconds where torch is installed, since it is loaded. Writes nothing that stays.
    """
    return [
        _python(),
        _cores(),
        *_packages(),
        *_video(),
        _accelerator(),
        _endpoint(),
        *_cache(),
    ]


def _python() -> Finding:
    version = platform.python_version()
    return Finding(
        "python",
        sys.version_info >= (3, 11),
        True,
        f"{version} on {platform.system()} {platform.machine()}",
        "install Python 3.11 or newer",
    )


def core_figures() -> dict[str, Any]:
    """Return the cores of machine, affinity mask and quota, and how many threads torch takes.

    `quota` is None where there is none, `torch_threads` where torch is not installed, and
    `omp_num_threads` where the variable is not set.
    """
    cores = given_cores()
    try:
        threads = limit_torch_threads()
    except ImportError:
        threads = None
    return {
        **asdict(cores),
        "available": cores.available,
        "torch_threads": threads,
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS") or None,
    }


def _cores() -> Finding:
    figures = core_figures()
    available, threads = figures["available"], figures["torch_threads"]
    quota = "no quota" if figures["quota"] is None else f"quota {figures['quota']:g}"
    state = f"{available} of {figures['machine']} (affinity mask {figures['mask']}, {quota})"
    if threads is not None:
        state += f"; torch: {plural(threads, 'thread')}"
        if figures["omp_num_threads"]:
            state += f", OMP_NUM_THREADS is {figures['omp_num_threads']}"
        else:
            small = f"{SMALL_MODEL // 1_000_000} M parameters"
            state += f", 1 on the CPU for a model below {small}; OMP_NUM_THREADS changes it"
    return Finding(
        "cores",
        threads is None or threads <= available,
        False,
        state,
        f"set OMP_NUM_THREADS to {available} or less: threads without a core hold up the others",
    )


def _packages() -> Iterator[Finding]:
    core, missing = _requirements("")
    yield Finding(
        "packages",
        not missing,
        True,
        ", ".join(core + missing),
        install_line(),
    )
    for extra, use in _EXTRAS.items():
        present, missing = _requirements(extra)
        state = f"to {use}: {', '.join(missing or present)}"
        yield Finding(f"extra {extra}", not missing, False, state, install_line(extra))
    yield _together()


# Those whose versions are often at odds, by their own word in their metadata.
_AT_ODDS = (
    "accelerate", "datasets", "lmms-eval", "peft", "ray", "torchvision", "transformers", "trl",
)  # fmt: skip


def _together() -> Finding:
    """Report installed packages that by their own metadata do not go together."""
    from packaging.requirements import Requirement

    at_odds: list[str] = []
    fixes: list[str] = []
    for package in _AT_ODDS:
        try:
            own = importlib.metadata.version(package)
            requirements = importlib.metadata.requires(package) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        if package == "lmms-eval":
            requirements = [*requirements, "filelock<4"]  # it imports a module that 4 has no more
        for requirement in map(Requirement, requirements):
            if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
                continue
            try:
                version = importlib.metadata.version(requirement.name)
            except importlib.metadata.PackageNotFoundError:
                continue  # `pip` would have brought it: not at odds, but removed
            if requirement.specifier.contains(version, prereleases=True):
                continue
            name = requirement.name
            at_odds.append(f"{package} {own} needs {name}{requirement.specifier}, not {version}")
            # torchvision follows torch, which may be a build for this machine's GPU.
            kept = f"{name}=={version.partition('+')[0]}"
            fixes.append(
                f"{package} {kept}"
                if package == "torchvision"
                else f"{name}{requirement.specifier}"
            )
    words = " ".join(shlex.quote(word) for fix in fixes for word in fix.split())
    return Finding(
        "versions",
        not at_odds,
        False,
        "; ".join(at_odds) or "those installed go together",
        f"pip install --upgrade {words}",
    )


def _requirements(extra: str) -> tuple[list[str], list[str]]:
    """Return `name version` of what the core (extra "") or an extra requires: present, missing."""
    from packaging.requirements import Requirement

    present: list[str] = []
    missing: list[str] = []
    for text in importlib.metadata.requires("sharegptvideo") or []:
        requirement = Requirement(text)
        marker = requirement.marker
        in_core = marker is None or marker.evaluate({"extra": ""})
        if marker is not None and not marker.evaluate({"extra": extra}):
            continue
        if in_core != (extra == "") or requirement.name == "sharegptvideo":
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(f"{requirement.name} not installed")
            continue
        if requirement.specifier.contains(version, prereleases=True):
            present.append(f"{requirement.name} {version}")
        else:
            missing.append(f"{requirement.name} {version}, not {requirement.specifier}")
    return present, missing


def _video() -> Iterator[Finding]:
    reinstall = "pip install --force-reinstall av"
    try:
        import av
    except ImportError as error:
        yield Finding("ffmpeg", False, True, f"PyAV does not load ({error})", reinstall)
        return
    versions = ", ".join(
        f"{name} {'.'.join(map(str, version))}"
        for name, version in sorted(av.library_versions.items())
        if name in ("libavcodec", "libavformat")
    )
    yield Finding("ffmpeg", True, True, f"in PyAV: {versions}", reinstall)
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        try:
            _write_clip(clip)
            count = _count_frames(clip)
            state, ok = f"{count} of 4 frames of a clip written here", count == 4
        except Exception as error:  # noqa: BLE001 - native libraries fail in ways of their own
            state, ok = f"{type(error).__name__}: {error}".splitlines()[0], False
    yield Finding("video", ok, True, state, reinstall)


def _write_clip(path: Path) -> None:
    import av
    import numpy as np

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for shade in range(0, 256, 64):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), shade, np.uint8), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _count_frames(path: Path) -> int:
    """Return how many different frames our own reader gives where it is asked for 16."""
    from sharegptvideo.media import sample_frames

    return len(set(sample_frames(path, 16).indices))


def _accelerator() -> Finding:
    cpu = "not needed for the demo; larger models want one, and a CUDA build of torch"
    try:
        import torch
    except ImportError:
        return Finding("gpu", False, False, "torch is not installed", cpu)
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return Finding("gpu", True, False, f"torch {torch.__version__}: {', '.join(names)}")
    return Finding("gpu", False, False, f"torch {torch.__version__} sees none", cpu)


def _endpoint() -> Finding:
    url, key = os.environ.get("OPENAI_BASE_URL"), os.environ.get("OPENAI_API_KEY")
    if url or key:
        state = f"{url or 'the default of the openai client'}, {'with' if key else 'no'} key"
        return Finding("endpoint", True, False, state)
    fix = "set OPENAI_BASE_URL (any compatible server) and OPENAI_API_KEY to use openai:NAME"
    return Finding("endpoint", False, False, "none configured", fix)


def _cache() -> Iterator[Finding]:
    folder = cache_folder()
    fix = "make it writable, or set SHAREGPTVIDEO_CACHE to another folder"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        yield Finding("cache", False, True, f"{folder}: {os_error_words(error)}", fix)
        return
    yield Finding("cache", True, True, f"{folder} is writable", fix)
    free = shutil.disk_usage(folder).free
    yield Finding(
        "disk",
        free >= _DISK_NEEDED,
        False,
        f"{byte_size(free)} free at {folder}",
        f"the demo wants {byte_size(_DISK_NEEDED)}; free some, or set SHAREGPTVIDEO_CACHE",
    )


def doctor(json: JsonOption = False) -> None:
    """Check the installation: cores, packages, video reading, GPU, endpoint, cache, disk.

    Exits with 1 if something is missing that the package cannot do without.

    Example: [bold]sharegptvideo doctor --json[/bold]
    """
    findings = examine()
    healthy = all(finding.ok for finding in findings if finding.needed)
    if json:
        print_json(
            {
                "ok": healthy,
                "cores": core_figures(),
                "findings": [finding.as_dict() for finding in findings],
            }
        )
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            word, colour = ("ok     ", "green") if finding.ok else ("absent ", "yellow")
            if finding.needed and not finding.ok:
                word, colour = "MISSING", "red"
            about = visible(f"{finding.name:<{width}}  {finding.state}")
            typer.echo(f"{typer.style(word, fg=colour)}  {about}")
            if not finding.ok and finding.fix:
                echo(f"{'':<{width + 9}}  fix: {finding.fix}")
    if not healthy:
        raise typer.Exit(1)
