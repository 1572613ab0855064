"""Training of video models that come with a processor: Qwen's and LLaVA-OneVision, tiny."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sharegptvideo._io import read_jsonl
from sharegptvideo.errors import UserError
from sharegptvideo.media import sample_frames
from sharegptvideo.media.facts import read_facts
from sharegptvideo.models import (
    ProcessorModel,
    Request,
    SamplingParams,
    conversation,
    open_model,
    render_question,
)
from sharegptvideo.models.processor import clip_metadata
from sharegptvideo.training import DpoRecipe, SftRecipe, load_recipe, recipe_names, run_recipe
from sharegptvideo.training.collators import ClipCache, PreferenceCollator, SftCollator
from sharegptvideo.training.examples import preference_dataset, sft_dataset
from sharegptvideo.training.families import open_family
from sharegptvideo.training.recipes import LengthLimit
from sharegptvideo.training.run_dir import TrainingDir
from sharegptvideo.training.trainers import (
    VideoDPOTrainer,
    VideoSFTTrainer,
    quiet_and_quick,
    trainer_arguments,
)
from tests.support.modern_release import build_release
from tests.support.tiny_video_models import build

pytestmark = pytest.mark.peers
pytest.importorskip("torchvision", reason="transformers' video processors need torchvision")

KINDS = ["qwen3_vl", "qwen2_5_vl", "llava_onevision"]
FRAMES = 5


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_release(tmp_path_factory.mktemp("modern"))


@pytest.fixture(scope="session", params=KINDS)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(request.param, tmp_path_factory.mktemp("modern") / request.param)


@pytest.fixture(autouse=True)
def _as_in_training() -> Iterator[None]:
    with quiet_and_quick():
        yield


def overrides(release: Path, checkpoint: Path, output: Path, steps: int = 6) -> list[str]:
    return [
        f"model={checkpoint}",
        f"output={output}",
        f"data.data_dir={release}",
        f"data.media={release}",
        "data.split=train+validation",
        f"frames={FRAMES}",
        "optimisation.epochs=null",
        f"optimisation.max_steps={steps}",
        "optimisation.per_device_batch_size=2",
        "log_every=1",
    ]


@pytest.fixture
def recipe_of(
    release: Path, checkpoint: Path, tmp_path: Path
) -> Callable[..., SftRecipe | DpoRecipe]:
    """`recipe_of(stage, *overrides)`: a demo's recipe on a tiny model."""

    def recipe(stage: str, *more: str) -> SftRecipe | DpoRecipe:
        common = overrides(release, checkpoint, tmp_path / stage)
        return load_recipe(f"demo/{stage}", [*common, "optimisation.max_length=400", *more])

    return recipe


def by_processor(
    checkpoint: Path, path: Path, question: str, answer: str
) -> tuple[list[int], int, float]:
    """Ids, tokens of the answer, their log-probability: a prompt of `eval` and what follows it."""
    model = ProcessorModel(str(checkpoint))
    frames, indices = sample_frames(path, FRAMES)
    text = render_question(model.processor, question)
    found = model.processor(
        text=[f"{text}{answer}<|im_end|>"],
        videos=[torch.from_numpy(frames).permute(0, 3, 1, 2)],
        video_metadata=[clip_metadata(indices, read_facts(path).fps)],
        do_sample_frames=False,
        return_tensors="pt",
    )
    with torch.no_grad():
        scores = model.model(**found).logits[0].log_softmax(-1)
    ids = found["input_ids"][0].tolist()
    said = len(model.processor.tokenizer(f"{answer}<|im_end|>")["input_ids"])
    chosen = [float(scores[at - 1, ids[at]]) for at in range(len(ids) - said, len(ids))]
    return ids, said, sum(chosen)


@pytest.mark.parametrize("share", [True, False])
def test_log_probabilities_are_the_models_own_on_the_processors_prompt(
    share: bool, checkpoint: Path, release: Path, recipe_of: Callable[..., Any]
) -> None:
    """The ids of every pair are those that the processor writes for text and clip."""
    trainer, rows = dpo_trainer(recipe_of("dpo", f"sharing.video={share}"))
    batch = trainer.data_collator(list(rows))
    found = score(trainer, batch).sum(1)
    pairs = [
        row for _, row in read_jsonl(release / "video_instruction/train/dpo/sft_dpo_17k.jsonl")
    ]
    lengths = set()
    for number, (side, pair) in enumerate(
        (side, pair) for side in ("chosen", "rejected") for pair in pairs
    ):
        path = release / "videos" / f"{pair['video']}.mp4"
        ids, said, expected = by_processor(checkpoint, path, pair["prompt"], pair[side])
        length = int(batch["attention_mask"][number].sum())
        assert batch["input_ids"][number, :length].tolist() == ids
        assert int(batch["completion_mask"][number].sum()) == said
        assert float(found[number]) == pytest.approx(expected, rel=1e-5)
        lengths.add(len(ids))
    assert len(lengths) > 2, "clips of one shape would show nothing"


def sft_trainer(recipe: SftRecipe) -> tuple[Any, Any]:
    from trl import SFTConfig

    family = open_family(recipe)
    rows, _ = sft_dataset(recipe.data, family, limit=LengthLimit(400))
    family.freeze(recipe.freeze)
    trainer = VideoSFTTrainer(
        model=family.model,
        args=SFTConfig(
            **trainer_arguments(recipe, TrainingDir(recipe).checkpoints),
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
        data_collator=SftCollator(
            ClipCache(family.reader), LengthLimit(400), share=recipe.sharing.video
        ),
        train_dataset=rows,
        processing_class=family.tokenizer,
    )
    trainer.share(family, recipe.sharing)
    return trainer, rows


def dpo_trainer(recipe: DpoRecipe) -> tuple[Any, Any]:
    from trl import DPOConfig

    family = open_family(recipe)
    rows, _ = preference_dataset(recipe.data, family, limit=LengthLimit(400))
    family.freeze(recipe.freeze)
    trainer = VideoDPOTrainer(
        model=family.model,
        args=DPOConfig(**trainer_arguments(recipe, TrainingDir(recipe).checkpoints), beta=0.7),
        data_collator=PreferenceCollator(
            ClipCache(family.reader), LengthLimit(400), share=recipe.sharing.video
        ),
        train_dataset=rows,
        processing_class=family.tokenizer,
    )
    trainer.share(family, recipe.sharing)
    return trainer, rows


def score(trainer: Any, batch: dict[str, Any]) -> torch.Tensor:
    """Log-probabilities as TRL asks for them, rows×(length - 1)."""
    given = {name: value for name, value in batch.items() if name != "completion_mask"}
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    with torch.no_grad():
        found: torch.Tensor = trainer.model(**given, labels=labels, fused_lm_head=True).log_probs
    return found


@pytest.mark.parametrize("stage", ["sft", "dpo"])
@pytest.mark.parametrize("frozen", [True, False])
def test_a_shared_clip_gives_the_loss_and_gradients_of_plain_rows(
    stage: str, frozen: bool, recipe_of: Callable[..., Any], tmp_path: Path
) -> None:
    found = {}
    for share in (True, False):
        recipe = recipe_of(
            stage,
            f"sharing.video={share}",
            f"freeze.vision_tower={frozen}",
            f"freeze.projector={frozen}",
            f"output={tmp_path / str(share)}",
        )
        trainer, rows = (sft_trainer if stage == "sft" else dpo_trainer)(recipe)
        torch.manual_seed(0)
        with torch.no_grad():  # policy and reference differ, or the first loss is log 2
            for weight in trainer.model.parameters():
                if weight.requires_grad:
                    weight.add_(0.02 * torch.randn_like(weight))
        batch = trainer.data_collator(list(rows))
        loss = trainer.compute_loss(trainer.model, batch)
        loss.backward()
        found[share] = (
            loss.detach(),
            {n: w.grad for n, w in trainer.model.named_parameters() if w.grad is not None},
        )
    (loss, grads), (plain, expected) = found[True], found[False]
    assert float(loss) == pytest.approx(float(plain), rel=1e-5)
    assert grads.keys() == expected.keys()
    towers = [name for name in grads if "visual" in name or "vision" in name or "multi" in name]
    assert bool(towers) != frozen
    for name, grad in grads.items():
        if name.endswith("k_proj.bias"):
            continue  # a key's bias moves all scores alike: its gradient is nothing but rounding
        off = float((grad - expected[name]).norm())
        assert off <= 1e-5 * float(expected[name].norm()), name


def weights(folder: str | Path) -> bytes:
    return (Path(folder) / "model.safetensors").read_bytes()


@pytest.mark.parametrize("checkpoint", ["qwen3_vl", "llava_onevision"], indirect=True)
@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_a_run_resumes_to_the_bit_and_its_folder_answers(
    stage: str, recipe_of: Callable[..., Any], checkpoint: Path, release: Path, tmp_path: Path
) -> None:
    """Its answers are to prompts of the checkpoint's own processor, and differ from the start's."""
    more = ("save_every=2", "optimisation.learning_rate=0.01", "optimisation.max_steps=5")
    whole = run_recipe(recipe_of(stage, *more, f"output={tmp_path / 'whole'}"))

    def progress(done: int, _total: int, what: str) -> None:
        if done == 3 and what.startswith("training"):
            raise KeyboardInterrupt

    recipe = recipe_of(stage, *more)
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe, progress=progress)
    result = run_recipe(recipe)
    assert result.resumed_from == 2
    assert [entry["loss"] for entry in result.log] == [entry["loss"] for entry in whole.log]
    assert weights(result.output) == weights(whole.output) != weights(checkpoint)

    assert open_model(f"hf:{result.output}").render("Red?") == open_model(
        f"hf:{checkpoint}"
    ).render("Red?")
    frames, indices = sample_frames(release / "videos" / "clip_blue.mp4", FRAMES)
    answers = [
        list(
            open_model(f"hf:{folder}").generate(
                [Request("What colour is the picture?", frames, indices, fps=5.0)],
                SamplingParams(),
            )
        )
        for folder in (checkpoint, result.output, whole.output)
    ]
    assert answers[1] == answers[2] != answers[0]


def test_a_conversation_is_what_generation_is_prompted_with(
    recipe_of: Callable[..., Any],
) -> None:
    """Two turns, a system's text, and what the assistant speaks of it."""
    family = open_family(recipe_of("sft"))
    turns = [
        {"role": "system", "content": "Be short."},
        *conversation("What colour is it?", "Red."),
        *conversation("Is there a dog?", "No, a man."),
    ]
    ids, assistant_mask = family.encode(turns)
    words = family.tokenizer
    said = [token for token, own in zip(ids, assistant_mask, strict=True) if own]
    assert words.decode(said) == "Red.<|im_end|>No, a man.<|im_end|>"
    asked, none = family.encode(turns[:-1])
    assert not any(none[len(none) - 3 :])
    assert ids[: len(asked)] == asked
    one, _ = family.encode(conversation("What colour is it?"))
    assert words.decode(one) == render_question(family.reader.processor, "What colour is it?")
    with pytest.raises(UserError, match=r"own mark '<\|im_end\|>'"):
        family.encode(conversation("Red<|im_end|>?"))
    with pytest.raises(UserError, match="no conversation"):
        family.encode([{"role": "assistant", "content": "Red."}])


def test_a_template_that_writes_answers_otherwise_than_it_prompts(
    recipe_of: Callable[..., Any],
) -> None:
    """LLaVA-OneVision's own puts a space behind the role; answers still follow the prompt."""
    family = open_family(recipe_of("sft"))
    template = (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ' ' }}"
        "{% for part in message['content'] %}"
        "{% if part['type'] == 'video' %}{{ '<V>' }}"
        "{% else %}{{ '\n' + part['text'] }}{% endif %}{% endfor %}"
        "{{ '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    processor = family.reader.processor
    processor.chat_template = template.replace("<V>", processor.video_token)
    ids, assistant_mask = family.encode(conversation("What colour is it?", "Red."))
    prompt, _ = family.encode(conversation("What colour is it?"))
    assert ids[: len(prompt)] == prompt
    assert family.tokenizer.decode(prompt).endswith("<|im_start|>assistant\n")
    assert family.tokenizer.decode(ids[len(prompt) :]) == "Red.<|im_end|>"
    assert assistant_mask == [False] * len(prompt) + [True] * (len(ids) - len(prompt))
    processor.chat_template = processor.chat_template.replace("<|im_end|>", "###")
    with pytest.raises(UserError, match="'###', where nothing ends generation"):
        family.encode(conversation("What colour is it?", "Red."))


@pytest.mark.parametrize("around", ["<V>", "Video 1: <V>", "<S><V><E>", "(<<V>"])
def test_a_prompt_is_the_processors_whatever_stands_around_the_clip(
    around: str, release: Path, recipe_of: Callable[..., Any]
) -> None:
    """Qwen's templates wrap it in marks; text before it may join with a time's first letters."""
    family = open_family(recipe_of("sft"))
    processor = family.reader.processor
    start, end = "<|vision_start|>", "<|vision_end|>"
    if start not in family.tokenizer.get_vocab():
        start = end = ""
    whole = around.replace("<S>", start).replace("<E>", end).replace("<V>", processor.video_token)
    processor.chat_template = processor.chat_template.replace(processor.video_token, whole)
    ids, assistant_mask = family.encode(conversation("What colour is it?", "Red."))
    for path in sorted((release / "videos").iterdir()):
        frames, indices = sample_frames(path, FRAMES)
        found = processor(
            text=[render_question(processor, "What colour is it?") + "Red.<|im_end|>"],
            videos=[torch.from_numpy(frames).permute(0, 3, 1, 2)],
            video_metadata=[clip_metadata(indices, read_facts(path).fps)],
            do_sample_frames=False,
        )
        grown, said = family.reader.expand(ids, assistant_mask, family.reader.read(str(path)))
        assert grown == found["input_ids"][0]
        assert len(grown) == len(said)
        assert sum(said) == sum(assistant_mask)


def test_a_clip_has_the_positions_that_were_counted(
    recipe_of: Callable[..., Any], release: Path
) -> None:
    """And a reader in a worker process, which gets it pickled, reads the same."""
    reader = open_family(recipe_of("sft")).reader
    other = pickle.loads(pickle.dumps(reader))
    paths = [str(path) for path in (release / "videos").iterdir()]
    counts = {reader.count(path) for path in paths}
    assert reader.video_tokens == (counts.pop() if len(counts) == 1 else 0)
    for path in sorted((release / "videos").iterdir()):
        clip, again = reader.read(str(path)), other.read(str(path))
        assert reader.count(str(path)) == clip["input_ids"].numel()
        assert clip.keys() == again.keys()
        assert all(torch.equal(clip[name], again[name]) for name in clip)
        assert clip["pixel_values_videos"].dtype == torch.uint8


def test_rows_that_are_too_long_are_cut_or_refused_by_their_own_clip(
    recipe_of: Callable[..., Any],
) -> None:
    family = open_family(recipe_of("sft"))
    rows, _ = sft_dataset(recipe_of("sft").data, family, limit=LengthLimit(400))
    longest = max(rows["length"])
    most = max(family.reader.count(path) for path in set(rows["video_path"]))
    with pytest.raises(UserError, match=r"rows have no room for an answer after .* positions"):
        sft_dataset(recipe_of("sft").data, family, limit=LengthLimit(most))
    _, report = sft_dataset(recipe_of("sft").data, family, limit=LengthLimit(longest - 1))
    assert report.cut == rows["length"].count(longest)


def test_an_architecture_that_is_not_trained_here(
    recipe_of: Callable[..., Any], tmp_path: Path
) -> None:
    other = build("internvl", tmp_path / "internvl")
    with pytest.raises(UserError, match="'internvl' cannot be trained here; these can: video_l"):
        open_family(recipe_of("sft", f"model={other}"))


def test_a_template_without_clips(
    recipe_of: Callable[..., Any], checkpoint: Path, tmp_path: Path
) -> None:
    shutil.copytree(checkpoint, tmp_path / "text")
    template = tmp_path / "text" / "chat_template.jinja"
    mark = open_family(recipe_of("sft")).reader.processor.video_token
    template.write_text(template.read_text().replace(mark, ""))
    with pytest.raises(UserError, match="no place for a clip"):
        open_family(recipe_of("sft", f"model={tmp_path / 'text'}"))


MODERN = [name for name in recipe_names() if name.startswith("modern/")]


@pytest.mark.parametrize("name", MODERN)
def test_a_modern_recipe_trains(name: str, release: Path, tmp_path: Path) -> None:
    """Two steps on its own architecture, everything else as shipped, bf16 and LoRA and all."""
    kind = name.removeprefix("modern/").rpartition("_")[0]
    model = build(kind, tmp_path / "start")
    recipe = load_recipe(
        name, [*overrides(release, model, tmp_path / "out", 2), "data.workers=0", "data.files=null"]
    )
    assert recipe.lora
    result = run_recipe(recipe)
    assert result.steps == 2
    assert (result.output / "model.safetensors").exists()
    assert open_model(f"hf:{result.output}").describe()["architecture"] == kind


def test_there_is_a_modern_recipe_for_each_stage() -> None:
    assert len(MODERN) == 4


def test_kept_clips_train_to_the_same_weights_to_the_bit(recipe_of: Callable[..., Any]) -> None:
    """Decoded, written and read again: in memory, on disk, and a second time from the disk."""
    short = ("optimisation.max_steps=2", "freeze.vision_tower=true", "freeze.projector=true")
    found = []
    for number, how in enumerate(("none", "memory", "disk", "disk")):
        notes: list[str] = []
        recipe = recipe_of("sft", f"data.keep_clips={how}", *short)
        recipe = recipe.model_copy(update={"output": f"{recipe.output}-{number}"})
        run_recipe(recipe, report=notes.append)
        found.append((Path(recipe.output) / "model.safetensors").read_bytes())
        kept = [line for line in notes if line.startswith("decoded clips are kept in")]
        assert len(kept) == (how != "none")
        assert (number == 3) is any("are there already" in line for line in kept)
    assert len(set(found)) == 1
