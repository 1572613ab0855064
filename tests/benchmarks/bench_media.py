"""Eight frames a clip: `sample_frames` against PyAV decoding all, PyAV seeking, and decord.

    python tests/benchmarks/bench_media.py [CLIP ...]

Without clips it takes those of ../shared/data, or generated ones where that is absent, and one
generated clip of three minutes. All ways take turns within one run; medians in milliseconds, and
how many times as long as `sample_frames` each took. decord is measured where it is installed.

Then clips of 1080p a second by threads and by processes (whose frames are not passed on, which
would only slow them), and the share of a clip's processor time that needs Python's lock: that of
as many frames too small to take time to decode, plus the copies of the frames.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np

from sharegptvideo._concurrency import available_cores, worker_pool
from sharegptvideo.errors import UserError
from sharegptvideo.media import sample_frames
from sharegptvideo.media.readers import READERS, check_reader

FRAMES = 8
ROUNDS = 7


def full_decode(path: Path) -> Any:
    """Decode all frames, convert all, keep eight: what most loaders do with PyAV."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack([frames[i * (len(frames) - 1) // (FRAMES - 1)] for i in range(FRAMES)])


def seek_each(path: Path) -> Any:
    """Seek to each of eight times and decode up to the frame there."""
    found = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times = sorted(p.pts for p in container.demux(stream) if p.size and p.pts is not None)
        for i in range(FRAMES):
            wanted = times[i * (len(times) - 1) // (FRAMES - 1)]
            container.seek(wanted, stream=stream)
            for frame in container.decode(stream):
                if frame.pts is not None and frame.pts >= wanted:
                    found.append(frame.to_ndarray(format="rgb24"))
                    break
    return np.stack(found)


def with_decord(path: Path) -> Any:
    """decord's own batch of eight."""
    import decord

    reader = decord.VideoReader(str(path), num_threads=1)
    last = len(reader) - 1
    return reader.get_batch([i * last // (FRAMES - 1) for i in range(FRAMES)]).asnumpy()


def by_reader(reader: str, path: Path) -> Any:
    """`sample_frames` by another reader, its look at the kind of clip included."""
    return sample_frames(path, FRAMES, reader=reader).frames


def ways() -> dict[str, Callable[[Path], Any]]:
    """What is compared, `sample_frames` first."""
    table: dict[str, Callable[[Path], Any]] = {
        "sample_frames": lambda path: sample_frames(path, FRAMES).frames,
        "PyAV full": full_decode,
        "PyAV seek": seek_each,
    }
    try:
        import decord
    except ImportError:
        print("decord is not installed: left out")
    else:
        table[f"decord {decord.__version__}"] = with_decord
    for reader in READERS[1:]:
        try:
            check_reader(reader)
        except UserError as error:
            print(f"reader={reader!r} is left out: {error}")
        else:
            table[f"reader={reader}"] = partial(by_reader, reader)
    return table


def generate(path: Path, seconds: int, width: int = 640, height: int = 360) -> Path:
    """A clip of moving noise at 25 frames a second, H.264."""
    noise = np.random.default_rng(0).integers(0, 255, (24, 48, 3), dtype=np.uint8)
    across = (width + 800) // 48 + 1
    texture = noise.repeat(across, axis=0).repeat(across, axis=1)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for i in range(25 * seconds):
            top, left = i % 300, i * 3 % 800
            frame = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(texture[top : top + height, left : left + width])
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def clips(folder: Path) -> list[Path]:
    """The clips named on the command line, else the shared and the generated ones."""
    if len(sys.argv) > 1:
        return [Path(name) for name in sys.argv[1:]]
    shared = Path(__file__).parents[2].parent / "shared" / "data"
    found = sorted([*shared.glob("videos/*.mp4"), *shared.glob("gifs/*.gif")])
    if not found:
        print("no ../shared/data: its clips are left out, a generated one of ten seconds stands in")
        found = [generate(folder / "generated_10_s.mp4", 10)]
    return [*found, generate(folder / "generated_180_s.mp4", 180)]


def decode(path: Path) -> int:
    """Sample a clip; returns the bytes of its frames."""
    return sample_frames(path, FRAMES).frames.nbytes


def rate(pool: Executor, path: Path, at_once: int) -> tuple[float, float]:
    """Clips a second, and processor seconds a clip, of a pool that is warm."""
    list(pool.map(decode, [path] * at_once))
    clips, start, spent = max(8, 2 * at_once), time.perf_counter(), sum(os.times()[:4])
    list(pool.map(decode, [path] * clips))
    seconds = time.perf_counter() - start
    return clips / seconds, (sum(os.times()[:4]) - spent) / clips


def least(call: Callable[[], Any]) -> float:
    """Processor seconds of this thread for a call, the least of ten."""
    taken = []
    for _ in range(10):
        start = time.thread_time()
        call()
        taken.append(time.thread_time() - start)
    return min(taken)


def at_once(folder: Path) -> None:
    """Print rates of 1080p by threads and processes, and the share that needs Python's lock."""
    path = generate(folder / "generated_1080p.mp4", 10, 1920, 1080)
    small = generate(folder / "generated_small.mp4", 10, 64, 48)
    numbers = sorted({1, 2, 4, 8, available_cores()})
    for number in numbers:
        with ThreadPoolExecutor(number) as pool:
            clips, spent = rate(pool, path, number)
        print(f"1080p, {number:2} threads   {clips:6.2f} clips/s, {spent:.2f} processor s a clip")
    with worker_pool(available_cores()) as pool:
        clips, _ = rate(pool, path, available_cores())
    print(f"1080p, {available_cores():2} processes {clips:6.2f} clips/s")
    whole = least(lambda: decode(path))
    frames = sample_frames(path, FRAMES).frames
    locked = least(lambda: decode(small)) + 2 * least(frames.copy)
    print(
        f"1080p: {whole * 1e3:.0f} ms of processor a clip, {locked * 1e3:.1f} ms of them with the "
        f"lock ({locked / whole:.1%})"
    )


def main() -> None:
    """Measure and print one line a clip, then the median of the ratios."""
    table = ways()
    ratios: dict[str, list[float]] = {name: [] for name in table}
    print(f"{'median ms for 8 frames':26}" + "".join(f"{name:>22}" for name in table))
    with tempfile.TemporaryDirectory() as folder:
        for path in clips(Path(folder)):
            times: dict[str, list[float]] = {name: [] for name in table}
            for _ in range(ROUNDS):
                for name, way in table.items():
                    begun = time.perf_counter()
                    way(path)
                    times[name].append(time.perf_counter() - begun)
            medians = {name: statistics.median(values) for name, values in times.items()}
            ours = medians["sample_frames"]
            line = f"{path.name[:25]:26}"
            for name, value in medians.items():
                ratios[name].append(value / ours)
                line += f"{value * 1e3:13.1f} ({value / ours:5.2f}×)"
            print(line)
    print(f"{'median of the ratios':26}", end="")
    print("".join(f"{statistics.median(values):20.2f}×" for values in ratios.values()))
    with tempfile.TemporaryDirectory() as folder:
        at_once(Path(folder))


if __name__ == "__main__":
    main()
