"""A Ray cluster on this machine that says that it has a GPU: two CPUs, one node.

    RAY_TMPDIR=FOLDER python -m tests.support.gpu_cluster

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

from tests.support.server_process import ROOT, serve_until_orphaned

__all__ = ["gpu_cluster"]


@contextlib.contextmanager
def gpu_cluster(**variables: str) -> Iterator[str]:
    """Run a cluster whose workers have these variables; yield its address."""
    # Short: sockets lie there. Else its address would be that of `auto` for the whole machine.
    folder = tempfile.TemporaryDirectory(prefix="sgv-gpu-", dir="/tmp", ignore_cleanup_errors=True)
    with (
        folder as place,
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.gpu_cluster"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "RAY_TMPDIR": place,
                "RAY_raylet_start_wait_time_s": "180",  # for a busy machine
                "RAY_USAGE_STATS_ENABLED": "0",
                **variables,
            },
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


def _main() -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 2,
            "num_gpus": 1,
            "include_dashboard": False,
            "object_store_memory": 128 << 20,
        },
    )
    serve_until_orphaned(cluster.address)
    cluster.shutdown()


if __name__ == "__main__":
    _main()
