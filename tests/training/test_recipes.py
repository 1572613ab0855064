"""Recipes: what they accept, what they refuse, and that every shipped one trains."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from sharegptvideo.errors import UserError
from sharegptvideo.training import (
    DpoRecipe,
    load_recipe,
    load_steps,
    recipe_names,
    recipe_text,
    run_recipe,
)
from sharegptvideo.training.recipes import recipe_hash

FOLDER = Path(__file__).parents[2] / "training" / "recipes"
SHIPPED = sorted(str(file.relative_to(FOLDER).with_suffix("")) for file in FOLDER.rglob("*.yaml"))


def test_all_shipped_recipes_are_listed() -> None:
    assert recipe_names() == SHIPPED
    assert {"demo/pretrain", "demo/sft", "demo/dpo", "llava_hound/dpo"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_opens_with_its_command(name: str) -> None:
    comment = recipe_text(name).split("stage:")[0]
    assert f"sharegptvideo train run {name}" in comment
    assert all(line.startswith("#") for line in comment.splitlines())


NEEDS_TORCHVISION = pytest.mark.skipif(
    find_spec("torchvision") is None,
    reason="transformers' video processors need torchvision; tests/peers runs the modern recipes",
)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=NEEDS_TORCHVISION if name.startswith("modern/") else ())
        for name in SHIPPED
    ],
)
def test_a_shipped_recipe_trains(
    name: str, pointed_at: Callable[..., list[str]], paper_release: Path, tmp_path: Path
) -> None:
    """Two steps on the smallest model, everything else as shipped, bf16 and all."""
    whole = [f"data.data_dir={paper_release}", f"data.media={paper_release}"]
    overrides = [
        *pointed_at(tmp_path / "out", steps=2),
        *(whole if name.startswith("llava_hound/") else ()),
        "frames=4",
        "optimisation.per_device_batch_size=2",
        "data.split=train+validation",
        "data.workers=0",  # a worker process for two batches costs seconds
    ]
    for recipe in load_steps(name, overrides):
        result = run_recipe(recipe)
        assert result.steps == 2
        assert (result.output / "model.safetensors").exists()


def test_the_papers_settings() -> None:
    """Learning rates, schedule, batch and β of PAPER.md (8 devices)."""
    pretrain, sft, dpo = (load_recipe(f"llava_hound/{s}") for s in ("pretrain", "sft", "dpo"))
    for recipe, rate in ((pretrain, 2e-5), (sft, 5e-6)):
        o = recipe.optimisation
        assert (o.learning_rate, o.scheduler, o.warmup_ratio, o.epochs) == (
            rate, "cosine", 0.03, 1,
        )  # fmt: skip
        assert (o.per_device_batch_size, o.bf16, o.gradient_checkpointing) == (16, True, True)
        assert (recipe.freeze.vision_tower, recipe.freeze.projector) == (True, False)
    assert isinstance(dpo, DpoRecipe)
    o = dpo.optimisation
    assert (o.learning_rate, o.scheduler, o.warmup_ratio, o.epochs) == (5e-7, "linear", 0.1, 3)
    assert o.per_device_batch_size * o.gradient_accumulation * 8 == 128
    assert (dpo.freeze.vision_tower, dpo.freeze.projector, dpo.dpo.beta) == (True, True, 0.1)


@pytest.mark.parametrize("name", [name for name in SHIPPED if name.startswith("llava_hound/")])
def test_rows_order_length_and_prompt_are_the_authors(name: str) -> None:
    from sharegptvideo.models.prompts import VICUNA_SYSTEM

    for recipe in load_steps(name):
        assert recipe.system == VICUNA_SYSTEM
        assert (recipe.data.split, recipe.data.order) == ("train+validation", "random")
        o = recipe.optimisation
        assert (o.max_length, o.max_length_counts) == (2048, "text")
        assert recipe.freeze.vision_tower


def test_pretraining_starts_from_the_papers_parts() -> None:
    from sharegptvideo.models.convert import PAPER_PARTS

    recipe = load_recipe("llava_hound/pretrain")
    assert recipe.model == PAPER_PARTS
    assert str(recipe.data) == "image_captions + captions"
    assert load_recipe("llava_hound/pretrain", ["model=here"]).model == "here"
    other = load_recipe("llava_hound/pretrain", ["model.projector=mine"])
    assert other.model == PAPER_PARTS.model_copy(update={"projector": "mine"})
    assert other.start != recipe.start


@pytest.mark.parametrize(
    ("override", "cause"),
    [
        ("model.languge=x", r"unknown key model.languge \(did you mean language\?\)"),
        ("model={language: a, image_tower: b}", "model.video_tower is missing; model.projector is"),
        ("model=3", "model: Input should be a valid string, not 3"),
        ("model.projector=[]", r"model.projector: Input should be a valid string, not \[\]"),
    ],
)
def test_parts_that_will_not_do(override: str, cause: str) -> None:
    with pytest.raises(UserError, match=cause):
        load_recipe("llava_hound/pretrain", [override])
    lora = ["freeze.projector=true", "lora.merge=false"]
    with pytest.raises(UserError, match=r"lora.merge=false leaves adapters, whose base"):
        load_recipe("llava_hound/pretrain", lora)


def test_overrides_reach_every_level() -> None:
    changed = load_recipe(
        "demo/dpo", ["seed=7", "optimisation.learning_rate=1e-6", "dpo.beta=0.3", "data.limit=5"]
    )
    assert isinstance(changed, DpoRecipe)
    assert (changed.seed, changed.optimisation.learning_rate) == (7, 1e-6)
    assert (changed.dpo.beta, changed.data.limit) == (0.3, 5)


@pytest.mark.parametrize(
    ("override", "cause"),
    [
        ("seed", "write it as key=value"),
        ("a..b=1", "write it as key=value"),
        ("seed.x=1", "seed has no keys below it"),
        ("seed=[", "not YAML"),
        ("optimisation.max_steps=3", "give either epochs or max_steps"),
        ("stage=sfft", "did you mean sft"),
        ("data.name=preference", "did you mean preferences"),
        ("data.name=preferences", "has no rows for this stage"),
        ("data.split=test", "unknown split of sft 'test'"),
    ],
)
def test_an_override_that_will_not_do(override: str, cause: str) -> None:
    with pytest.raises(UserError, match=cause):
        load_recipe("demo/sft", [override])


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    content = yaml.safe_load(recipe_text("demo/sft"))
    content["optimization"] = {}
    content["optimisation"]["learning_rte"] = 1
    content["optimisation"]["warmup_ratio"] = 3
    del content["model"]
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(UserError) as caught:
        load_recipe(str(file))
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "unknown key optimization (did you mean optimisation?)",
        "unknown key optimisation.learning_rte (did you mean learning_rate?)",
        "optimisation.warmup_ratio: Input should be less than 1, not 3",
        "model is missing",
    ):
        assert part in message


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [")
    with pytest.raises(UserError, match="not YAML"):
        load_recipe(str(broken))
    broken.write_text("- a")
    with pytest.raises(UserError, match="a mapping"):
        load_recipe(str(broken))
    with pytest.raises(UserError, match="cannot be read"):
        load_recipe(str(tmp_path / "nothing.yaml"))
    with pytest.raises(UserError, match="unknown recipe 'demo/sftt'; did you mean demo/sft"):
        load_recipe("demo/sftt")


def test_the_hash_is_of_all_but_the_output() -> None:
    recipe = load_recipe("demo/sft")
    assert recipe_hash(recipe) == recipe_hash(load_recipe("demo/sft", ["output=elsewhere"]))
    assert recipe_hash(recipe) != recipe_hash(load_recipe("demo/sft", ["seed=1"]))


def test_the_old_name_of_the_data_folder(tmp_path: Path) -> None:
    """Read wherever it may stand, each time with a line that names the new key."""
    file = tmp_path / "old.yaml"
    file.write_text(STEPS.replace("data_dir: here", "source: here"))
    with pytest.warns(FutureWarning, match=r"old.yaml: data.source is now data.data_dir"):
        steps = load_steps(str(file))
    assert [one.data.data_dir for one in steps] == ["here", "here"]
    file.write_text(STEPS.replace("files: a.jsonl", "source: there"))
    with pytest.warns(FutureWarning, match=r"step first: data.source is now data.data_dir"):
        assert [one.data.data_dir for one in load_steps(str(file))] == ["there", "here"]
    for override in ("data.source=else", "steps.captions.data.source=else"):
        with pytest.warns(FutureWarning, match="override .* is now data.data_dir; read as that"):
            assert load_steps("llava_hound/sft_two_step", [override])[0].data.data_dir == "else"
    with pytest.warns(FutureWarning, match=r"eval.source is now eval.data_dir"):
        recipe = load_recipe("demo/sft", ["eval={tasks: [msvd_qa], every: 1, source: there}"])
    assert recipe.eval is not None
    assert recipe.eval.data_dir == "there"
    file.write_text(STEPS.replace("media: here", "source: there"))
    with pytest.raises(UserError, match=r"old.yaml: data.source is the old name of data.data_dir"):
        load_steps(str(file))


STEPS = """
stage: sft
model: start
output: out
data: {name: sft, data_dir: here, media: here}
optimisation: {learning_rate: 1.0e-3, epochs: 1, per_device_batch_size: 2}
steps:
  first: {data: {files: a.jsonl}, optimisation: {epochs: 2}}
  second:
"""


def test_steps_are_trainings_in_a_row(tmp_path: Path) -> None:
    """Each changes its own keys, and starts where the one before ended."""
    file = tmp_path / "steps.yaml"
    file.write_text(STEPS)
    first, second = load_steps(str(file), ["seed=3", "steps.second.data.files=b.jsonl"])
    assert (first.model, first.output) == ("start", "out/first")
    assert (second.model, second.output) == ("out/first", "out/second")
    assert (first.data.files, second.data.files) == ("a.jsonl", "b.jsonl")
    assert (first.data.media, second.data.media) == ("here", "here")
    assert (first.optimisation.epochs, second.optimisation.epochs) == (2, 1)
    assert first.seed == second.seed == 3
    with pytest.raises(UserError, match="has 2 steps \\(first, second\\)"):
        load_recipe(str(file))
    assert [one.output for one in load_steps("demo/sft")] == [load_recipe("demo/sft").output]


@pytest.mark.parametrize(
    ("override", "cause"),
    [
        ("steps=[]", "steps is a mapping of names"),
        ("steps={}", "steps is a mapping of names"),
        ("steps.second=3", "step second: a mapping of the keys"),
        ("steps={a/b: {}}", "step a/b: a step's name is a folder's"),
        ("steps.second.output=x", "step second: output is out/second"),
        ("steps.first.data.flies=x", r"step first: unknown key data.flies \(did you mean files"),
        ("data.files=a/b", "data.files"),
    ],
)
def test_steps_that_will_not_do(override: str, cause: str, tmp_path: Path) -> None:
    file = tmp_path / "steps.yaml"
    file.write_text(STEPS)
    with pytest.raises(UserError, match=cause):
        load_steps(str(file), [override])


IMAGES = "image_instruction_600k.jsonl"


def test_the_two_steps_of_the_released_model() -> None:
    """The paper's settings in both; each on images and clips of its own files of the release."""
    one, (captions, answers) = (
        load_recipe("llava_hound/sft"),
        load_steps("llava_hound/sft_two_step"),
    )
    assert str(one.data) == f"sft ({IMAGES}) + sft (video_240k_caption_15k.jsonl)"
    assert str(captions.data) == f"sft ({IMAGES}) + sft (video_caption_300k.jsonl)"
    assert str(answers.data) == (
        "sft (image_instruction_100k.jsonl) + sft (video_240k_caption_15k.jsonl)"
    )
    assert answers.model == captions.output
    assert captions.optimisation == answers.optimisation == one.optimisation


def test_the_papers_dpo_on_one_gpu() -> None:
    """LoRA changes how the weights learn and how the batch is gathered; the rest is the paper's."""
    whole, lora = load_recipe("llava_hound/dpo"), load_recipe("llava_hound/dpo_lora")
    assert isinstance(whole, DpoRecipe)
    assert isinstance(lora, DpoRecipe)
    o = lora.optimisation
    assert o.per_device_batch_size * o.gradient_accumulation == 128
    assert lora.lora is not None
    assert (o.bf16, o.gradient_checkpointing) == (True, True)
    assert (lora.dpo, lora.data, lora.freeze) == (whole.dpo, whole.data, whole.freeze)
    for field in ("scheduler", "warmup_ratio", "epochs", "max_length"):
        assert getattr(o, field) == getattr(whole.optimisation, field)


def test_a_shipped_recipe_names_folders_for_models_of_its_own() -> None:
    """`a/b` would be asked for on the Hub while it is not there yet, and could be anyone's."""
    made = {recipe.output for name in SHIPPED for recipe in load_steps(name)}
    for output in made:
        assert output.startswith("runs/")
        assert output.count("/") > 1


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("lora.rnak=8", r"unknown key lora.rnak \(did you mean rank\?\)"),
        ("eval.evry=8", r"unknown key eval.evry \(did you mean every\?\)"),
        ("push_to_hub.repos=a", r"unknown key push_to_hub.repos \(did you mean repo\?\)"),
        ("learning_rate=1", r"unknown key learning_rate \(did you mean optimisation.learning_rate"),
        ("freeze={vision_tower: true, projector: true, language_model: true}", "nothing is left"),
        ("sharing={video: false, pack_tokens: 4000}", "pack_tokens needs sharing.video"),
        ("--dry-rnu", "options such as --dry-run"),
    ],
)
def test_hints_reach_optional_sections(override: str, hint: str) -> None:
    with pytest.raises(UserError, match=hint):
        load_recipe("demo/sft", [override])
    with pytest.raises(UserError, match="dpo has no packs"):
        load_recipe("demo/dpo", ["sharing.pack_tokens=4000"])


def test_an_optional_section_opens_with_its_first_key() -> None:
    lora = load_recipe("demo/dpo", ["lora.rank=8"]).lora
    assert lora is not None
    assert lora.rank == 8
    assert load_recipe("llava_hound/dpo_lora", ["lora=null"]).lora is None


SYSTEM = "You 'see' a clip.\\n"


@pytest.mark.parametrize("stage", ["sft", "dpo_lora"])
def test_the_system_sentence_is_saved_and_asked_with(
    stage: str, pointed_at: Callable[..., list[str]], tmp_path: Path
) -> None:
    from sharegptvideo.models.checkpoints import load_tokenizer
    from sharegptvideo.models.video_llava import VideoLlavaModel

    name = "demo/sft" if stage == "sft" else "llava_hound/dpo_lora"
    changes = [*pointed_at(tmp_path / "out", steps=1), "frames=4", f"system={SYSTEM!r}"]
    small = ["data.split=train+validation", "optimisation.gradient_accumulation=1"]
    few = ["data.workers=0", "optimisation.per_device_batch_size=2"]
    out = run_recipe(load_recipe(name, [*changes, *small, *few])).output
    assert VideoLlavaModel(str(out)).render("Why?").startswith(f"<s>{SYSTEM} USER: <video>")
    messages = [{"role": "system", "content": "Another."}, {"role": "user", "content": "Why?"}]
    text = load_tokenizer(str(out)).apply_chat_template(messages, tokenize=False)
    assert str(text).startswith("Another. USER: ")


def test_an_empty_system_sentence_is_none() -> None:
    from sharegptvideo.models.prompts import CHAT_TEMPLATE, template_with_system

    assert template_with_system("") == CHAT_TEMPLATE


@pytest.mark.parametrize(
    ("override", "cause"),
    [
        ("optimisation.learning_rate=.inf", ".inf is no number that can be used"),
        (
            'optimisation.learning_rate="inf"',
            "optimisation.learning_rate: Input should be a finite",
        ),
        ("optimisation.learning_rate=1e20", "optimisation.learning_rate: Input should be less"),
        ("optimisation.epochs=yes", "optimisation.epochs: must be a number, not True"),
        ("seed=on", "seed: must be a number, not True"),
        ("frames=true", "frames: must be a number, not True"),
        ("optimisation.epochs=1e12", "optimisation.epochs: Input should be less than or equal"),
        ("data.split=" + "x" * 5000, "data: unknown split of"),
        ("model=[" + "x," * 5000 + "]", "'x', 'x',…"),
    ],
)
def test_values_that_no_training_can_have_meant(override: str, cause: str) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe("demo/dpo", [override])
    assert cause in str(caught.value)
