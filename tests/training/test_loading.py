"""Loader workers: their errors as one line, their death, and Ctrl-C."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from sharegptvideo.errors import UserError
from sharegptvideo.training.recipes import DataSource
from sharegptvideo.training.workers import (
    CheckedCollator,
    CheckedRows,
    batches_of,
    loader_arguments,
    worker_faults,
)
from tests.support.worker_rows import Deaf, Dying, Modules, Signalled, Unreadable

DATA = DataSource(name="qa", workers=1)


def as_batch(rows: list[Any]) -> dict[str, Any]:
    return {"rows": rows}


def loaded(rows: Any, workers: int = 1) -> DataLoader[Any]:
    """As the trainer makes it: the server of workers has imported what they need."""
    arguments = loader_arguments(DataSource(name="qa", workers=workers))
    return DataLoader(
        CheckedRows(rows),
        batch_size=2,
        collate_fn=CheckedCollator(as_batch),
        num_workers=workers,
        multiprocessing_context=arguments.get("dataloader_multiprocessing_context"),
    )


@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_user_can_mend_comes_out_as_it_went_in(workers: int) -> None:
    found = []
    with pytest.raises(UserError) as caught:
        found.extend(batches_of(loaded(Unreadable(), workers)))
    assert str(caught.value) == "clip.mp4: cannot be read"
    assert caught.value.exit_code == 1
    assert found == [{"rows": [0, 1]}]


def test_a_dead_worker_is_one_line_that_says_what_to_lower() -> None:
    said = r"worker died .*data\.workers \(1\).*run the same command"
    with pytest.raises(UserError, match=said), worker_faults(DATA):
        list(loaded(Dying()))


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes"), worker_faults(DATA):
        raise RuntimeError("shapes do not fit")


def test_workers_leave_ctrl_c_to_the_training() -> None:
    assert list(batches_of(loaded(Deaf()))) == [{"rows": [True, True]}]


def test_workers_end_on_sigterm_of_the_training_alone() -> None:
    """A scheduler sends it to all of a job; the training needs its workers to end its step."""
    batches = iter(loaded(Signalled()))
    assert next(batches) == {"rows": [0, 1]}
    (worker,) = (one for one in multiprocessing.active_children() if one.daemon)
    worker.terminate()
    worker.join()
    assert worker.exitcode == 0


def test_workers_end_with_the_training() -> None:
    """Not when their loader goes, which a stopped training may still hold."""
    before = multiprocessing.active_children()
    with worker_faults(DATA):
        batches = iter(loaded(Deaf()))
        next(batches)
        (worker,) = (one for one in multiprocessing.active_children() if one not in before)
    assert not worker.is_alive()
    assert worker not in multiprocessing.active_children()
    del batches


def test_no_workers_need_no_arguments() -> None:
    assert loader_arguments(DataSource(name="qa")) == {}
    assert loader_arguments(DataSource(name="qa", workers=3, prefetch=4)) == {
        "dataloader_num_workers": 3,
        "dataloader_prefetch_factor": 4,
        "dataloader_persistent_workers": True,
        "dataloader_multiprocessing_context": "forkserver",
    }


def test_a_script_without_a_guard_is_named(tmp_path: Path) -> None:
    """A worker runs the script again, whose training cannot start in it."""
    script = tmp_path / "train.py"
    body = """
from torch.utils.data import DataLoader
from sharegptvideo.errors import UserError
from sharegptvideo.training.recipes import DataSource
from sharegptvideo.training.workers import CheckedCollator, loader_arguments, worker_faults

data = DataSource(name="qa", workers=1)
kind = {"multiprocessing_context": loader_arguments(data)["dataloader_multiprocessing_context"]}
loader = DataLoader([1], collate_fn=CheckedCollator(list), num_workers=1, **kind)
with worker_faults(data):
    print(list(loader))
"""
    script.write_text(body)
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    last = run.stderr.strip().splitlines()[-1]
    assert f'it runs {script} again, which has no `if __name__ == "__main__":`' in last
    assert "no memory left" not in last


def test_a_worker_finds_what_it_needs_imported() -> None:
    """Each of four workers imported 500 modules for itself, one after the other on two cores."""
    (batch,) = loaded(Modules())
    there = set(batch["rows"][0])
    assert {"datasets", "torch", "sharegptvideo.training.streaming"} <= there
    # What answers and trains, half of all that time, is no part of it.
    assert not {"sharegptvideo.models.decoding", "transformers.modeling_utils", "trl"} & there
