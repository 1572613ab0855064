"""The reference model's log-probabilities: computed once, before training, and kept.

What they depend on is the starting weights, the pair's tokens, its clip, and how clips are
prepared and numbers rounded; not the loss, β, the learning rate or the epochs. So each pair has a
key of its own in a file whose name stands for all the rest, and any run that has the same pairs
takes them from there. The reference model is never in memory: before the first step the policy
is the reference (with LoRA: the policy without its adapters).

    FOLDER/KEY.safetensors        keys, one log-probability for chosen and rejected; whole or absent
    FOLDER/KEY.NAME.part.jsonl    what a run that is not done has computed, a line a batch
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import broadcast_object_list, send_to_device
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch.utils.data import DataLoader

from sharegptvideo._concurrency import Progress
from sharegptvideo._io import KeyedLog, cache_folder, os_errors, parse_row, replacing_bytes
from sharegptvideo.errors import UserError
from sharegptvideo.training.precompute.fingerprints import (
    clip_fingerprint,
    digest,
    settings_fingerprint,
)

if TYPE_CHECKING:
    from sharegptvideo.training.recipes import DpoRecipe

__all__ = [
    "COLUMNS",
    "ReferenceCache",
    "pair_key",
    "reference_cache",
    "starting_model",
    "use_reference",
]

COLUMNS = ("ref_chosen_logps", "ref_rejected_logps")
"""What a row carries, as TRL's DPOTrainer calls them."""

Pair = tuple[float, float]
_WHAT = "reference log-probabilities"
_FIX = "free some space there, or name another folder as dpo.reference_cache"


def use_reference(
    trainer: Any, recipe: DpoRecipe, model_sha256: str, progress: Progress | None = None
) -> int:
    """Give each row of the trainer's pairs its reference log-probabilities.

    Call it before training, once the trainer takes our batches (`share`), and in every process:
    each computes its share, the first one writes. Interrupted, it goes on with the next batch.

    Args:
        model_sha256: of the starting weights.

    Returns:
        how many pairs had to be computed.

    Raises:
        UserError: the folder cannot be written; a log-probability is not a number.
    """
    rows = trainer.train_dataset
    first = trainer.accelerator.is_main_process
    precision = f"{trainer.model.dtype}, autocast {trainer.accelerator.mixed_precision}"
    cache = reference_cache(recipe, model_sha256, precision) if first else None
    keys = [pair_key(row) for row in rows] if first else []
    batches = _batches(rows, recipe.optimisation.per_device_batch_size)
    shared: list[Any] = [cache.read() if cache else {}, keys]
    broadcast_object_list(shared)
    known: dict[str, Pair] = shared[0]
    keys = shared[1]
    left = [batch for batch in batches if any(keys[row] not in known for row in batch)]
    if left:
        with cache.filling() if cache else contextlib.nullcontext() as write:
            done, total = 0, sum(map(len, left))
            for batch, values in _computed(trainer, left):
                named = {keys[row]: pair for row, pair in zip(batch, values, strict=True)}
                known.update(named)
                if write is not None:
                    write(named)
                done += len(batch)
                if progress and first:
                    progress(done, total, _WHAT)
    for name, side in zip(COLUMNS, (0, 1), strict=True):
        rows = rows.add_column(name, [known[key][side] for key in keys])
    trainer.train_dataset = rows
    return sum(map(len, left))


def pair_key(row: dict[str, Any]) -> str:
    """Return the key of a row of `preference_dataset`: its tokens and its clip."""
    tokens = (row["prompt_ids"], row["chosen_ids"], row["rejected_ids"])
    return digest(clip_fingerprint(row["video_path"]), *tokens)


def reference_cache(recipe: DpoRecipe, model_sha256: str, precision: str) -> ReferenceCache:
    """Return where the log-probabilities of a recipe's reference model are kept.

    Args:
        model_sha256: of the weights that `recipe.start` names.
        precision: how numbers are rounded: the weights' type and that of autocast.
    """
    key = digest(
        model_sha256,
        settings_fingerprint(recipe.start),
        recipe.frames,
        recipe.optimisation.max_length,
        precision,
        *(["text"] if recipe.optimisation.max_length_counts == "text" else []),
    )
    return ReferenceCache(_folder(recipe), key)


def _folder(recipe: DpoRecipe) -> Path:
    if recipe.dpo.reference_cache:
        return Path(recipe.dpo.reference_cache).expanduser()
    if recipe.data.data_dir:
        beside = Path(recipe.data.data_dir).expanduser()
        if beside.is_dir() and os.access(beside, os.W_OK):
            return beside / ".reference"
    return cache_folder() / "reference"


class ReferenceCache:
    """Log-probabilities of pairs under one model and one way to compute them.

    Several runs may read and fill it at once: each writes a file of its own on the way, and what
    replaces the whole file at the end holds all that is known.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        self.file = folder / f"{key}.safetensors"
        self._key = key

    def read(self) -> dict[str, Pair]:
        """Return the pairs known so far, by key; of a file that is torn or damaged, none."""
        pairs: dict[str, Pair] = {}
        for part in self._parts():
            pairs.update(_read_part(part))
        pairs.update(_read_whole(self.file))
        return pairs

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob(f"{self._key}.*.part.jsonl"))

    @contextlib.contextmanager
    def filling(self) -> Iterator[Callable[[dict[str, Pair]], None]]:
        """Give a function that adds pairs; what it was given lasts from then on.

        Raises:
            UserError: the disk is full, or the folder may not be written.
        """
        with os_errors(self.folder, _FIX):
            name = f"{self._key}.{uuid.uuid4().hex[:8]}.part.jsonl"
            own: dict[str, Pair] = {}  # another run that ends first removes our file
            with KeyedLog(self.folder / name, "key") as log:

                def write(pairs: dict[str, Pair]) -> None:
                    # One line: a batch is there as a whole or not at all.
                    log.append({"key": str(len(log)), "pairs": pairs})
                    own.update(pairs)

                yield write
            parts = self._parts()
            _write_whole(self.file, self.read() | own)
            for part in parts:
                part.unlink(missing_ok=True)


def _read_part(path: Path) -> dict[str, Pair]:
    known: dict[str, Pair] = {}
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                pairs = parse_row(path, number, line)["pairs"]
            except UserError:  # torn off by a kill; what stands before it is good
                break
            known.update({key: (pair[0], pair[1]) for key, pair in pairs.items()})
    return known


def _write_whole(path: Path, pairs: dict[str, Pair]) -> None:
    keys = torch.tensor([list(bytes.fromhex(key)) for key in pairs], dtype=torch.uint8)
    values = torch.tensor(list(pairs.values()), dtype=torch.float32)
    tensors = {"keys": keys, "log_probabilities": values}
    content = save(tensors, {"sha256": _checksum(keys, values)})
    with replacing_bytes(path) as file:
        file.write(content)


def _read_whole(path: Path) -> dict[str, Pair]:
    try:
        with safe_open(path, framework="pt") as file:
            keys, values = file.get_tensor("keys"), file.get_tensor("log_probabilities")
            checksum = (file.metadata() or {}).get("sha256")
    except (OSError, SafetensorError):  # absent or torn: computed (again)
        return {}
    if checksum != _checksum(keys, values):
        return {}
    names = (bytes(key).hex() for key in keys.tolist())
    return {
        name: (chosen, rejected)
        for name, (chosen, rejected) in zip(names, values.tolist(), strict=True)
    }


def _checksum(*tensors: torch.Tensor) -> str:
    digest_of_all = hashlib.sha256()
    for tensor in tensors:
        digest_of_all.update(tensor.contiguous().numpy().tobytes())
    return digest_of_all.hexdigest()


def _batches(rows: Any, size: int) -> list[list[int]]:
    """Row numbers in batches, pairs about one clip side by side.

    They depend on the rows alone, never on what is known already: a sum in another order rounds
    otherwise, and an interrupted run is to end with the same bits.
    """
    facts = zip(rows["video_path"], rows["length"], strict=True)
    order = [number for _, number in sorted((fact, number) for number, fact in enumerate(facts))]
    return [order[at : at + size] for at in range(0, len(order), size)]


def _computed(trainer: Any, batches: Sequence[list[int]]) -> Iterator[tuple[list[int], list[Pair]]]:
    """Each batch with its log-probabilities, in order, in every process."""
    accelerator = trainer.accelerator
    rank, world = accelerator.process_index, accelerator.num_processes
    # All take part in every step, the last batch again where there is none left.
    steps = math.ceil(len(batches) / world)
    mine = [batches[min(step * world + rank, len(batches) - 1)] for step in range(steps)]
    widest = max(map(len, batches))
    with starting_model(trainer) as model:
        loader = DataLoader(
            trainer.train_dataset,
            batch_sampler=mine,
            collate_fn=trainer.data_collator,
            num_workers=trainer.args.dataloader_num_workers,
            # Else it would draw from the global generator, and a run that has all values
            # would not be the run that computed them.
            generator=torch.Generator(),
        )
        for step, inputs in enumerate(loader):
            inputs = send_to_device(inputs, accelerator.device)
            values = torch.stack(trainer.compute_ref_log_probs(model, inputs), dim=1).float()
            room = values.new_full((widest, 2), math.nan)
            room[: len(values)] = values
            gathered = accelerator.gather(room).view(world, widest, 2).tolist()
            for batch, pairs in zip(batches[step * world : (step + 1) * world], gathered):  # noqa: B905 - the last step may repeat
                _check_finite(trainer.train_dataset, batch, pairs)
                yield batch, [(chosen, rejected) for chosen, rejected in pairs[: len(batch)]]


@contextlib.contextmanager
def starting_model(trainer: Any) -> Iterator[Any]:
    """Give the policy before its first step, on the device and in evaluation mode.

    That is how a reference model runs. FSDP and DeepSpeed would place it there at the start of
    training only.
    """
    model, device = trainer.model, trainer.accelerator.device
    training, place = model.training, next(model.parameters()).device
    try:
        yield model.to(device).eval()
    finally:
        model.to(place).train(training)


def _check_finite(rows: Any, batch: Sequence[int], pairs: Sequence[Sequence[float]]) -> None:
    for row, pair in zip(batch, pairs, strict=False):
        if not all(map(math.isfinite, pair)):
            clip = Path(rows[row]["video_path"]).name
            raise UserError(
                f"the reference model gives a pair about {clip} the log-probabilities "
                f"{pair[0]} and {pair[1]}; check the model, or train without bf16",
                exit_code=1,
            )
