"""What is decided by the device, decided here as on a machine with GPUs: nothing else differs.

Attention's branches are in `test_precision.py`; refusals of what a machine lacks in
`test_checks.py`.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from trl.trainer import utils
from trl.trainer.utils import add_fused_lm_head

from sharegptvideo.cli.doctor import examine
from sharegptvideo.errors import UserError
from sharegptvideo.models import Request, SamplingParams, VideoLlavaModel, load_model
from sharegptvideo.models.memory import free_bytes, in_parts
from sharegptvideo.models.parallel import device_names
from sharegptvideo.training import SftRecipe
from sharegptvideo.training.checks import memory_problem
from sharegptvideo.training.estimate import local_gpus
from sharegptvideo.training.run_dir import TrainingDir, environment
from sharegptvideo.training.trainers import quiet_and_quick, trainer_arguments
from tests.support.shared_decoders import FIELDS, plain_decoder, rows_of

NAME = "NVIDIA A100-SXM4-80GB"


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Two GPUs, as far as torch answers questions about them; `emptied` counts its cache's."""
    answers = SimpleNamespace(name=NAME, memory=80 << 30, free=1 << 30, emptied=0)

    def empty() -> None:
        answers.emptied += 1

    for name, value in {
        "is_available": lambda: True,
        "device_count": lambda: 2,
        "get_device_name": lambda _number=0: answers.name,
        "get_device_properties": lambda _number: SimpleNamespace(total_memory=answers.memory),
        "mem_get_info": lambda _device: (answers.free, answers.memory),
        "memory_reserved": lambda _device: 500,
        "memory_allocated": lambda _device: 200,
        "empty_cache": empty,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    return answers


@pytest.mark.parametrize(
    ("name", "gib", "found"),
    [
        (NAME, 79.2, "A100-80"),
        ("NVIDIA A100-SXM4-40GB", 39.4, "A100-40"),
        ("NVIDIA H100 PCIe", 79.2, "H100-PCIe"),
        ("NVIDIA H100 80GB HBM3", 79.2, "H100"),
        ("NVIDIA A10", 22.5, "A10"),
        ("GeForce 256", 0.03, None),
    ],
)
def test_gpus_of_the_table(gpus: SimpleNamespace, name: str, gib: float, found: str | None) -> None:
    gpus.name, gpus.memory = name, int(gib * 2**30)
    here = local_gpus()
    assert (here and (here.count, here.gpu.name)) == (found and (2, found))


def test_what_a_gpu_has_free(
    gpus: SimpleNamespace, sft_recipe: SftRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the driver has free and what torch holds unused; processes share no GPU's memory."""
    assert free_bytes(torch.device("cuda")) == (1 << 30) + 500 - 200
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1000000")  # of a CPU's memory each would take some
    assert memory_problem(sft_recipe) is None
    gpus.free = 1000
    problem = memory_problem(sft_recipe)
    assert problem is not None
    assert f"{NAME} has 1.3 kB free" in problem


def test_a_part_that_a_gpu_does_not_hold_is_halved(gpus: SimpleNamespace) -> None:
    def run(items: Any) -> list[int]:
        if len(items) > 2:
            raise torch.OutOfMemoryError
        return [2 * item for item in items]

    assert in_parts(range(5), run) == [0, 2, 4, 6, 8]
    assert gpus.emptied == 2  # five, then three


@pytest.mark.usefixtures("gpus")
def test_what_is_said_of_gpus() -> None:
    found = environment(1)
    assert (found["device"], found["devices"]) == (NAME, 2)
    (gpu,) = [one for one in examine() if one.name == "gpu"]
    assert gpu.ok
    assert f"{NAME}, {NAME}" in gpu.state
    assert device_names(["all", "cpu"]) == ["cuda:0", "cuda:1", "cpu"]
    with pytest.raises(UserError, match="'cuda:2': there are 2"):
        device_names(["cuda:2"])


def test_the_arguments_of_a_training(sft_recipe: SftRecipe, gpus: SimpleNamespace) -> None:
    """A GPU changes where it runs and how batches get there; nothing of what is computed."""
    run = TrainingDir(sft_recipe)
    here = trainer_arguments(sft_recipe, run.checkpoints)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        there = trainer_arguments(sft_recipe, run.checkpoints)
    assert gpus.emptied == 0
    assert here["optim"] == "adamw_torch_fused"
    assert {name for name in here if here[name] != there[name]} == {
        "use_cpu",
        "dataloader_pin_memory",
    }


def test_answer_positions_alone_give_what_all_positions_give(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """TRL's head scores answers alone on a GPU with Triton, and in trainings here everywhere."""
    with quiet_and_quick():
        assert utils._use_triton(torch.device("cpu"))
        assert utils._use_triton(torch.device("cuda"))
    rows = rows_of([(9, (3, 5)), (6, (2,))])
    found = []
    for compact in (True, False):
        monkeypatch.setattr(utils, "_use_triton", lambda _device, way=compact: way)
        model = plain_decoder("llama")
        add_fused_lm_head(model, outputs=FIELDS)
        output = model(**rows.inputs)
        output.loss.backward()
        found.append([output.log_probs, *(p.grad for p in model.parameters())])
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


def clips(count: int) -> list[Any]:
    numbers = np.random.default_rng(0)
    return [numbers.integers(0, 256, (4, 40, 48, 3), dtype=np.uint8) for _ in range(count)]


def test_a_checkpoint_in_bfloat16_answers_as_a_gpu_would_load_it(
    tiny: Path, tmp_path: Path
) -> None:
    """A CPU takes weights as float32 unless set otherwise; a GPU as they were saved."""
    folder = shutil.copytree(tiny, tmp_path / "model")
    load_model(str(tiny), dtype="bfloat16").save_pretrained(folder)
    assert VideoLlavaModel(str(folder), device="cpu").model.dtype == torch.float32
    model = VideoLlavaModel(str(folder), device="cpu", dtype="auto")
    assert model.model.dtype == torch.bfloat16
    asked = [Request(text, clip) for clip in clips(2) for text in ("What colour?", "Red or green?")]
    answers = model.generate(asked, SamplingParams(3, temperature=1.0, max_new_tokens=4))
    assert [len(answer.texts) for answer in answers] == [3] * 4
