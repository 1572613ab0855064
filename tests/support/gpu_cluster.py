"""A Ray cluster on this machine that says that it has a GPU: two CPUs, one node.

    python -m tests.support.gpu_cluster FOLDER

prints its address, and ends when stdin closes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.server_process import ROOT, serve_until_orphaned

__all__ = ["gpu_cluster"]


@contextlib.contextmanager
def gpu_cluster(**variables: str) -> Iterator[str]:
    """Run a cluster whose workers have these variables; yield its address."""
    ours = {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    # Short: sockets lie there.
    folder = tempfile.TemporaryDirectory(prefix="sgv-gpu-", dir="/tmp", ignore_cleanup_errors=True)
    with (
        folder as place,
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.gpu_cluster", place],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            env=os.environ | ours | variables,
            start_new_session=True,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            line = process.stdout.readline().strip()
            assert line, "the cluster has ended before it could be asked"
            yield line
        finally:
            process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)


def _main(folder: Path) -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 2,
            "num_gpus": 1,
            "include_dashboard": False,
            "object_store_memory": 128 << 20,
            "temp_dir": str(folder),
        },
    )
    serve_until_orphaned(cluster.address)
    cluster.shutdown()


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
