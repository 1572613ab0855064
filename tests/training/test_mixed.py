"""Clips, images and text in one training: the same numbers as row by row, whatever the way."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from trl import SFTConfig

from sharegptvideo.errors import UserError
from sharegptvideo.media import read_image, sample_frames
from sharegptvideo.models import build_tiny, load_model
from sharegptvideo.models.prompts import encode
from sharegptvideo.training import SftRecipe, run_recipe
from sharegptvideo.training.collators import ClipCache, SftCollator
from sharegptvideo.training.examples import sft_dataset
from sharegptvideo.training.families import open_family
from sharegptvideo.training.mix import visuals_of
from sharegptvideo.training.packing import pack
from sharegptvideo.training.plan import dry_run, dry_run_lines
from sharegptvideo.training.precompute.features import use_features
from sharegptvideo.training.run_dir import TrainingDir
from sharegptvideo.training.sampling import ByLength
from sharegptvideo.training.trainers import VideoSFTTrainer, quiet_and_quick, trainer_arguments

Change = Callable[..., Any]
TEXTS = ["What colour is the picture? It is red, green, blue, white. Describe it. Yes."] * 3


@pytest.fixture(scope="session", params=["llava_hound", "video_llava"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the demo's size, its 8 frames cut to 4 by the recipes."""
    out = tmp_path_factory.mktemp(request.param) / "model"
    return build_tiny(TEXTS, out, seed=1, size="demo", architecture=request.param)


def trainer_of(recipe: SftRecipe) -> tuple[Any, Any]:
    """A trainer that has not begun, and all rows."""
    with quiet_and_quick():
        family = open_family(recipe)
        rows, _ = sft_dataset(recipe.data, family, limit=recipe.optimisation.length_limit)
        family.freeze(recipe.freeze)
        trainer = VideoSFTTrainer(
            model=family.model,
            args=SFTConfig(
                **trainer_arguments(recipe, TrainingDir(recipe).checkpoints),
                dataset_kwargs={"skip_prepare_dataset": True},
            ),
            data_collator=SftCollator(
                ClipCache(family.reader),
                recipe.optimisation.length_limit,
                share=recipe.sharing.video,
            ),
            train_dataset=rows,
            processing_class=family.tokenizer,
        )
        trainer.share(family, recipe.sharing)
        if recipe.features.enabled:
            use_features(trainer, recipe, visuals_of(rows), lambda _: None)
    return trainer, rows


def loss_and_gradients(trainer: Any, batch: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    trainer.model.zero_grad()
    with quiet_and_quick():
        count = (batch["labels"] != -100).sum()
        loss = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=count)
    loss.backward()
    return float(loss.detach()), gradients_of(trainer.model)


def gradients_of(model: Any) -> dict[str, Any]:
    return {
        name: weight.grad.clone()
        for name, weight in model.named_parameters()
        if weight.grad is not None
    }


def row_by_row(recipe: SftRecipe, both: Path) -> tuple[float, dict[str, Any]]:
    """Each row alone through the model's own forward, its loss by hand, one mean over tokens."""
    model = load_model(recipe.model, dtype="float32")
    family = open_family(recipe, weights=False)
    family.model = model
    family.freeze(recipe.freeze)
    config, pixels, images = model.config, family.reader.pixels, family.reader.image_pixels
    total, count = torch.zeros(()), 0
    for messages, key, path in raw_rows(both):
        ids, said = encode(family.tokenizer, messages, key)
        given = {}
        if key == "video":
            given["pixel_values_videos"] = pixels(sample_frames(path, 4).frames)[None]
            ids, said = grown(ids, said, config.video_token_id, family.reader.video_tokens)
        elif key == "image":
            given["pixel_values_images"] = images(np.stack([read_image(path)]))
            ids, said = grown(ids, said, config.image_token_id, 16)  # 32 pixels in patches of 8
        row = torch.tensor([ids])
        logits = model(input_ids=row, attention_mask=torch.ones_like(row), **given).logits[0]
        wanted = torch.tensor(said[1:])
        total = total + cross_entropy(logits[:-1][wanted], row[0, 1:][wanted], reduction="sum")
        count += int(wanted.sum())
    (total / count).backward()
    return float(total.detach()) / count, gradients_of(model)


def grown(ids: list[int], said: list[bool], token: int, count: int) -> tuple[Any, Any]:
    at = ids.index(token)
    return (
        ids[:at] + [token] * count + ids[at + 1 :],
        said[:at] + [False] * count + said[at + 1 :],
    )


def raw_rows(both: Path) -> list[tuple[Any, Any, str]]:
    """The rows of `MIXED_PARTS` from the files themselves; half of four captions is the draw's."""
    train = both / "video_instruction" / "train"
    files = [
        *sorted((train / "sft").glob("*.jsonl")),
        train / "pretrain/image_caption_pretrain.jsonl",
    ]
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    captions = (train / "pretrain/video_caption_pretrain.jsonl").read_text().splitlines()
    lines += [json.loads(captions[number]) for number in HALF]
    rows = []
    for line in lines:
        roles = {"human": "user", "gpt": "assistant"}
        messages = [
            {
                "role": roles[turn["from"]],
                "content": turn["value"].replace("<image>\n", "").replace("<video>\n", ""),
            }
            for turn in line["conversations"]
        ]
        key = next((key for key in ("video", "image") if line.get(key)), "text")
        name = line.get(key)
        path = both / "videos" / f"{name}.mp4" if key == "video" else both / str(name)
        rows.append((messages, key, str(path)))
    return rows


HALF = [0, 3]


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.fixture(scope="session")
def known() -> dict[Path, Any]:
    """What `row_by_row` gave, by model."""
    return {}


@pytest.mark.parametrize("way", ["shared", "plain", "packed", "kept", "kept plain"])
def test_a_batch_is_its_rows_one_by_one(
    way: str,
    model: Path,
    mixed: Callable[..., SftRecipe],
    both: Path,
    known: dict[Path, Any],
    tmp_path: Path,
) -> None:
    """Loss and every gradient to 1e-5: 21 rows in one batch, against 21 forward passes."""
    recipe = mixed(
        model,
        sharing={"video": "plain" not in way},
        features={"enabled": "kept" in way, "folder": str(tmp_path / "kept")},
    )
    if model not in known:
        known[model] = row_by_row(recipe, both)
    loss, gradients = known[model]
    trainer, rows = trainer_of(recipe)
    assert Counter(visual.kind if visual else "text" for visual in visuals_of(rows)) == {
        "video": 10, "image": 9, "text": 2,
    }  # fmt: skip
    examples = list(rows)
    if way == "packed":
        positions = trainer.family.reader.positions
        packs = pack(rows, 400, positions=positions, limit=recipe.optimisation.length_limit)
        assert len(packs) < 5
        examples = list(packs)
    batch = trainer.data_collator(examples)
    found, own = loss_and_gradients(trainer, batch)
    assert found == pytest.approx(loss, rel=1e-5)
    assert own.keys() == gradients.keys()
    assert any("multi_modal_projector" in name for name in own)
    for name, gradient in gradients.items():
        if gradient.abs().max() > 1e-6:
            assert relative(own[name], gradient) < 1e-5, name
    if way == "shared":  # 4 clips and 3 images once each, of 10 and 9 rows
        reader = trainer.family.reader
        whole = int(batch["attention_mask"].sum())
        saved = 6 * reader.video_tokens + 6 * reader.image_tokens
        assert len(batch["shared_layout"]) <= whole - saved


def test_blanks_add_nothing(model: Path, mixed: Callable[..., SftRecipe]) -> None:
    """Text alone with a blank clip and image: the same loss, and a gradient for the projector."""
    trainer, rows = trainer_of(mixed(model))
    some = [row for row in rows if not (row["video_path"] or row["image_path"])]
    bare, without = loss_and_gradients(trainer, trainer.data_collator(some))
    trainer.data_collator.always = {"video", "image"}
    batch = trainer.data_collator(some)
    assert set(batch["clips"]) == {"pixel_values_videos", "pixel_values_images"}
    assert "clip_of_row" not in batch
    blank, own = loss_and_gradients(trainer, batch)
    assert blank == bare
    projector = own.keys() - without.keys()
    assert projector
    assert all("multi_modal_projector" in name for name in projector)
    assert all(float(own[name].abs().max()) == 0 for name in projector)
    assert all(torch.equal(own[name], without[name]) for name in without)


def test_a_batch_has_each_clip_and_image_once(hound: Path, mixed: Callable[..., SftRecipe]) -> None:
    trainer, rows = trainer_of(mixed(hound))
    by_kind: dict[str, list[Any]] = {"video": [], "image": [], "text": []}
    for row, visual in zip(rows, visuals_of(rows), strict=True):
        by_kind[visual.kind if visual else "text"].append(row)
    video, image, text = by_kind.values()
    batch = trainer.data_collator([image[0], video[0], text[0], image[1], video[2], video[1]])
    assert batch["image_of_row"].tolist() == [0, -1, -1, 0, -1, -1]
    assert batch["clip_of_row"].tolist() == [-1, 0, -1, -1, 1, 0]
    assert batch["clips"]["pixel_values_images"].shape == (1, 3, 16, 16)
    assert batch["clips"]["pixel_values_videos"].shape == (2, 4, 3, 16, 16)
    assert len(batch["shared_layout"].groups) == 4
    alone = trainer.data_collator([image[0]])
    assert "clip_of_row" not in alone
    assert set(alone["clips"]) == {"pixel_values_images"}
    assert "clips" not in trainer.data_collator(text)


def test_batches_are_of_one_kind_but_for_what_is_left_over() -> None:
    """40 clips of 2,060 tokens, 27 images of 290, 5 of text: batches of 4."""
    kinds = ["video"] * 40 + ["image"] * 27 + ["text"] * 5
    lengths = [2060 + n % 9 for n in range(40)] + [290 + n % 7 for n in range(27)] + [30] * 5
    visuals = [None if kind == "text" else (kind, n // 2) for n, kind in enumerate(kinds)]
    sampler = ByLength(lengths, 4, seed=0, clips=visuals, kinds=kinds)
    order = list(sampler)
    assert sorted(order) == list(range(72))
    batches = [{kinds[row] for row in order[at : at + 4]} for at in range(0, 72, 4)]
    assert Counter(len(batch) for batch in batches)[1] >= 17
    padding = sum(
        4 * max(lengths[row] for row in order[at : at + 4]) for at in range(0, 72, 4)
    ) - sum(lengths)
    assert padding < 0.02 * sum(lengths)
    sampler.set_epoch(1)
    assert list(sampler) != order


def test_processes_get_batches_of_one_kind_side_by_side() -> None:
    kinds = ["video"] * 64 + ["image"] * 64
    order = list(ByLength([9] * 64 + [1] * 64, 2, seed=3, kinds=kinds, processes=8))
    steps = [{kinds[row] for row in order[at : at + 16]} for at in range(0, 128, 16)]
    assert all(len(step) == 1 for step in steps)
    assert len({next(iter(step)) for step in steps}) == 2


def test_a_dry_run_counts_images(hound: Path, mixed: Callable[..., SftRecipe]) -> None:
    """21 rows of 6 clips and 3 images, 16 and 4 positions each; 11 steps of two rows."""
    found = dry_run(mixed(hound, optimisation={"max_steps": None, "epochs": 1}))
    data = found.data
    assert data is not None
    assert (data.rows, data.clips, data.images, data.text_rows) == (21, 4, 3, 2)
    assert [(part.part, part.rows, part.clips, part.images) for part in data.parts] == [
        ("sft", 16, 4, 3), ("image_captions", 3, 0, 3), ("0.5 × captions", 2, 2, 0),
    ]  # fmt: skip
    assert (data.video_tokens, data.image_tokens) == (16, 4)
    assert found.plan is not None
    assert found.plan.steps == 11
    # Row by row: 10 clips, 9 images and the text of all, over 21 rows, two rows a step.
    visual = (10 * 16 + 9 * 4) / 21
    assert found.plan.tokens_plain == round(2 * (visual + data.lengths.text))
    lines = list(dry_run_lines(found))
    assert any("21 rows on 4 clips and 3 images, 2 of text alone" in line for line in lines)
    assert any("16 tokens a clip, 4 tokens an image" in line for line in lines)


def test_images_that_cannot_be_read_are_listed(
    hound: Path, mixed: Callable[..., SftRecipe], both: Path, tmp_path: Path
) -> None:
    """One cut off, one not there: four questions and two captions."""
    root = tmp_path / "broken"
    shutil.copytree(both, root)
    images = root / "allava_laion" / "images"
    (images / "red.png").write_bytes((both / "allava_laion/images/red.png").read_bytes()[:60])
    (images / "blue.png").unlink()
    recipe = mixed(hound, data={"data_dir": str(root), "media": str(root)})
    with pytest.raises(UserError, match="6 rows have no clip or readable image") as caught:
        run_recipe(recipe)
    message = str(caught.value)
    assert "\n" not in message
    assert "red_0" in message
    assert "cannot be read" in message
    assert not Path(recipe.output).exists()
    skipping = mixed(
        hound, data={"data_dir": str(root), "media": str(root), "missing_media": "skip"}
    )
    result = run_recipe(skipping)
    assert result.rows == 21 - 6
    assert any("6 rows without a clip or readable image left out" in note for note in result.notes)


def test_a_family_of_clips_alone_takes_no_other_rows(
    hound: Path, mixed: Callable[..., SftRecipe]
) -> None:
    """Rows about images and of text are listed, as clips that are missing are."""
    recipe = mixed(hound, data={"missing_media": "skip"})
    family = open_family(recipe, weights=False)
    family.reader.__dict__["image_tokens"] = 0
    rows, report = sft_dataset(recipe.data, family, limit=recipe.optimisation.length_limit)
    assert (len(rows), len(report.missing)) == (10, 11)
    assert all(row["image_path"] is None for row in rows)


def test_a_mixture_is_trained_on(hound: Path, mixed: Callable[..., SftRecipe]) -> None:
    """Packed or not, three epochs: the loss falls, and a second run has nothing to do."""
    for number, sharing in enumerate(({}, {"pack_tokens": 200}, {"video": False})):
        recipe = mixed(
            hound,
            output=str(Path(mixed(hound).output) / str(number)),
            sharing=sharing,
            optimisation={"max_steps": 12, "learning_rate": 3e-3},
        )
        result = run_recipe(recipe)
        losses = [entry["loss"] for entry in result.log]
        assert sum(losses[-4:]) < sum(losses[:4])
        assert run_recipe(recipe).already_done
