"""`llava_hound` checkpoints from the authors' files: a checkpoint of theirs, or the model's parts.

A checkpoint is in their layout (`llava_llama`, towers inside). The parts are what training starts
from: a language model, two towers of LanguageBind, a projector. Weights move under their new names,
shard by shard. A weight without a place, or a place without a weight, is an error; what is dropped
on purpose is listed by `DROPPED` and `Converted.dropped`.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from sharegptvideo._concurrency import Progress
from sharegptvideo._install import install_line
from sharegptvideo._io import (
    cache_folder,
    dumps,
    follow_umask,
    full_disk_errors,
    making,
    os_errors,
    read_json,
    read_json_object,
    sha256_text,
    sync_folder,
    write_json,
)
from sharegptvideo._strict import StrictModel
from sharegptvideo._text import and_more, plural
from sharegptvideo.errors import UserError
from sharegptvideo.models.checkpoints import (
    AUTHORS,
    IMAGE_ONLY,
    checkpoint_folder,
    indexed_files,
)

if TYPE_CHECKING:
    import torch

__all__ = [
    "DROPPED",
    "PAPER_PARTS",
    "Converted",
    "ModelParts",
    "assemble_checkpoint",
    "assembled",
    "assembled_folder",
    "convert_checkpoint",
]

_Table = tuple[tuple[str, str], ...]

_PROJECTOR: _Table = (
    (r"(?:model\.)?mm_projector\.0\.(.+)", r"model.multi_modal_projector.linear_1.\1"),
    (r"(?:model\.)?mm_projector\.2\.(.+)", r"model.multi_modal_projector.linear_2.\1"),
)
_LANGUAGE: _Table = (
    (r"model\.((?:embed_tokens|layers|norm)\..+)", r"model.language_model.\1"),
    (r"(lm_head\..+)", r"\1"),
)
NAMES: _Table = (
    (r"model\.image_tower\.image_tower\.(?:vision_model\.)?(.+)", r"model.image_tower.\1"),
    (r"model\.video_tower\.video_tower\.(?:vision_model\.)?(.+)", r"model.video_tower.\1"),
    *_PROJECTOR,
    *_LANGUAGE,
)
"""The authors' names (a whole match) and ours."""

_TOWERS: dict[str, _Table] = {
    kind: ((r"vision_model\.(.+)", rf"model.{kind}.\1"),) for kind in ("image_tower", "video_tower")
}

DROPPED = (r".*\.rotary_emb\.inv_freq", r".*\.embeddings\.position_ids")
"""Tensors that follow from the config and are no weights."""

_NOT_OF_A_TOWER = (*DROPPED, r"text_model\..+", r"(text|visual)_projection\.weight", "logit_scale")
"""What a tower's repository has beside the tower: it holds a whole CLIP."""

_EMBEDDINGS = ("model.language_model.embed_tokens.weight", "lm_head.weight")
_SHARD_BYTES = 1 << 30
_TOKENIZER = "tokenizer.model"
_PROJECTOR_FILE = "mm_projector.bin"
_CONFIGS = ("*.json", "*.model")
_FILES = ("*.json", "*.safetensors", "*.bin", "*.model")
_TEXT_FIELDS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "head_dim",
    "tie_word_embeddings",
    "initializer_range",
)


@dataclass(frozen=True, slots=True)
class Converted:
    """What a conversion wrote.

    Attributes:
        weights, parameters: tensors written, and the numbers in them.
        shards: files of weights.
        dropped: names that were left out on purpose.
        video_positions: positions that a clip takes in the prompt.
    """

    folder: Path
    weights: int
    parameters: int
    shards: int
    dropped: tuple[str, ...]
    video_positions: int


class ModelParts(StrictModel):
    """What the paper's pre-training starts from: four folders or Hub ids.

    `language` is a Llama with its `tokenizer.model`, the towers are LanguageBind's repositories,
    and `projector` has `mm_projector.bin`, or is that file.
    """

    language: str
    image_tower: str
    video_tower: str
    projector: str

    def __str__(self) -> str:
        return " + ".join(self.model_dump().values())


PAPER_PARTS = ModelParts(
    language="lmsys/vicuna-7b-v1.5",
    image_tower="LanguageBind/LanguageBind_Image",
    video_tower="LanguageBind/LanguageBind_Video_merge",
    projector="ShareGPTVideo/Video-LLaVA-MLP-Adapter",
)
"""The parts that the authors' scripts name."""


@dataclass(frozen=True, slots=True)
class _Weights:
    """Files of weights, and what becomes of their names.

    Attributes:
        source: what to call them in messages.
        names: theirs (a whole match) and ours.
        dropped: theirs that are left out.
    """

    source: str | Path
    shards: list[Path]
    names: _Table
    dropped: tuple[str, ...] = DROPPED

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each tensor, by its name in the files."""
        of_shards = [_shapes(shard, self.source) for shard in self.shards]
        return {name: shape for shapes in of_shards for name, shape in shapes.items()}


def convert_checkpoint(
    source: str | Path,
    to: Path,
    *,
    towers: Path | None = None,
    progress: Progress | None = None,
) -> Converted:
    """Convert a checkpoint of LLaVA-Hound or Video-LLaVA in the authors' layout.

    Args:
        source: a folder, or a Hub id.
        to: the new folder; it appears when it is whole.
        towers: JSON `{"image": {CLIPVisionConfig's fields}, "video": {...}}`, for where the
            repositories that the checkpoint names (`mm_image_tower`, `mm_video_tower`) cannot be
            reached.
        progress: called with weights done, weights in all, and what is done.

    Raises:
        UserError: another family of models, missing or unreadable shards, sizes that differ from
            the towers' configs, a weight without a place or a place without a weight, or `to` is
            there already.
    """
    _refuse_full(to)
    config = _authors_config(checkpoint_folder(source, ("config.json",)), source)
    sizes = _tower_configs(config, towers, source)  # before gigabytes are downloaded
    folder = checkpoint_folder(source, _FILES)
    weights = _Weights(source, _shards(folder, source), NAMES)
    tokenizer = _tokenizer(folder, source)
    _check_time(sizes[1], weights, "pass the right one with --towers")
    model_config = _model_config(config, sizes, tokenizer, source)
    with _new_folder(to) as partial:
        written = _write_weights([weights], model_config, partial, progress)
        _write_rest(model_config, tokenizer, config, partial)
    return Converted(to, *written, int(model_config.video_seq_length))


def assemble_checkpoint(
    parts: ModelParts, to: Path, *, weights: bool = True, progress: Progress | None = None
) -> Converted:
    """Make a checkpoint of the parts that the paper's pre-training starts from.

    Each weight keeps its precision. The authors' scripts give Vicuna's tokenizer no new tokens;
    here `<image>` and `<video>` are added, whose rows are the mean of all (see `_with_marks`).
    Which parts they were, with the commit of each that is from the Hub, is in `parts.json`.

    Args:
        to: the new folder; it appears when it is whole.
        weights: False leaves them out: config, tokenizer and processor, for planning.
        progress: called with weights done, weights in all, and what is done.

    Raises:
        UserError: a part is missing, unreadable, or of another kind or size; a weight without a
            place or a place without a weight; or `to` is there already.
    """
    _refuse_full(to)
    names = parts.model_dump()
    whole = ("language", *_TOWERS)
    folders = {name: checkpoint_folder(names[name], _CONFIGS) for name in whole}
    config = _language_config(folders["language"], parts.language)
    tokenizer = _tokenizer(folders["language"], parts.language)
    sizes = _known_sizes([_vision_config(folders[name], name, names[name]) for name in _TOWERS])
    model_config = _model_config(config, sizes, tokenizer, str(parts))
    sources = []
    if weights:
        projector = _projector_file(parts.projector)  # small: before gigabytes are downloaded
        folders = {name: checkpoint_folder(names[name], _FILES) for name in whole}
        folders["projector"] = projector.parent
        language = _Weights(parts.language, _shards(folders["language"], parts.language), _LANGUAGE)
        towers = [
            _Weights(names[name], _shards(folders[name], names[name]), table, _NOT_OF_A_TOWER)
            for name, table in _TOWERS.items()
        ]
        sources = [language, *towers, _Weights(parts.projector, [projector], _PROJECTOR)]
        _check_time(sizes[1], towers[1], "give a video tower with its own config.json")
    with _new_folder(to) as partial:
        written: tuple[int, int, int, tuple[str, ...]] = (0, 0, 0, ())
        if weights:
            written = _write_weights(sources, model_config, partial, progress)
        _write_rest(model_config, tokenizer, config, partial)
        write_json(partial / _PARTS, _identity(parts) | {"commits": _commits(folders)})
    return Converted(to, *written, int(model_config.video_seq_length))


_PARTS = "parts.json"
_ASSEMBLY_VERSION = 1
"""Raise it when the same parts give another checkpoint: what is kept is then assembled again."""


def assembled(parts: ModelParts, progress: Progress | None = None) -> Path:
    """Return the folder with the parts' checkpoint, assembled the first time it is asked for.

    It is kept in the package's cache folder. Parts from the Hub are taken as they were then; of
    those in folders, names, sizes and times of the files are looked at, and what changed is
    assembled again. Several processes may ask at once: one assembles, the others wait.

    Raises:
        UserError: as `assemble_checkpoint`.
    """
    folder = assembled_folder(parts)
    with os_errors(folder, hint="make it writable, or set SHAREGPTVIDEO_CACHE to another folder"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f"{folder.name}.lock"):
            kept = folder / _PARTS
            if not kept.is_file() or {**read_json(kept), **_identity(parts)} != read_json(kept):
                shutil.rmtree(folder, ignore_errors=True)
                assemble_checkpoint(parts, folder, progress=progress)
    return folder


def assembled_folder(parts: ModelParts) -> Path:
    """Return where `assembled` keeps the parts' checkpoint, there or not."""
    names = parts.model_dump().values()
    places = [str(Path(one).resolve()) if Path(one).exists() else one for one in names]
    key = sha256_text(dumps([_ASSEMBLY_VERSION, *places]))[:12]
    return cache_folder() / "assembled" / f"{Path(parts.language).name}-{key}"


def _identity(parts: ModelParts) -> dict[str, Any]:
    """Return what an assembled checkpoint depends on: ids, and the facts of files in folders."""
    facts = {}
    for name, part in parts.model_dump().items():
        path = Path(part)
        inside = [file for pattern in _FILES for file in path.glob(pattern)]
        files = inside if path.is_dir() else [path] if path.is_file() else []
        stats = [(file.name, file.stat()) for file in sorted(files)]
        facts[name] = [[file, stat.st_size, stat.st_mtime_ns] for file, stat in stats]
    return {"version": _ASSEMBLY_VERSION, "parts": parts.model_dump(), "files": facts}


def _commits(folders: Mapping[str, Path]) -> dict[str, str]:
    """Return the commit of each part that is a snapshot of a Hub repository."""
    return {name: path.name for name, path in folders.items() if path.parent.name == "snapshots"}


def _refuse_full(to: Path) -> None:
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UserError(f"{to}: is there already; pass another --to, or remove it")


@contextlib.contextmanager
def _new_folder(to: Path) -> Iterator[Path]:
    """Give a folder to fill, which becomes `to` once it is whole."""
    partial = to.parent / f".{to.name}.unfinished"
    shutil.rmtree(partial, ignore_errors=True)
    hint = "free some space, or pass another --to"
    with os_errors(to, hint), full_disk_errors(to, hint), making(to.parent):
        partial.mkdir()
        try:
            yield partial
            follow_umask(partial.glob("*.safetensors"))
            if to.is_dir():
                to.rmdir()
            partial.rename(to)
            sync_folder(to.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _authors_config(folder: Path, source: str | Path) -> dict[str, Any]:
    if not (folder / "config.json").is_file():
        raise UserError(f"{source}: no config.json in it; a whole checkpoint is needed")
    config = read_json_object(folder / "config.json")
    kind = config.get("model_type")
    if kind == "llava_hound":
        raise UserError(f"{source}: is a llava_hound checkpoint already; use it as it is")
    if kind not in AUTHORS:
        raise UserError(
            f"{source}: model_type {kind!r} is not the authors' layout ({', '.join(AUTHORS)}); "
            "models of transformers load as they are"
        )
    if not config.get("mm_video_tower"):
        raise UserError(f"{source}: {IMAGE_ONLY}")
    feature = config.get("mm_vision_select_feature", "patch")
    if feature != "patch":
        raise UserError(
            f"{source}: mm_vision_select_feature is {feature!r}; llava_hound takes a frame's "
            "patches without the class token ('patch'), as the authors' models do"
        )
    return config


def _language_config(folder: Path, source: str) -> dict[str, Any]:
    if not (folder / "config.json").is_file():
        raise UserError(f"language {source}: no config.json in it; a whole checkpoint is needed")
    config = read_json_object(folder / "config.json")
    if config.get("model_type") != "llama":
        raise UserError(
            f"language {source}: model_type {config.get('model_type')!r} is no Llama by itself; "
            f"the paper's is {PAPER_PARTS.language}"
        )
    return config


def _vision_config(folder: Path, name: str, source: str) -> dict[str, Any]:
    if not (folder / "config.json").is_file():
        raise UserError(f"{name} {source}: no config.json in it, so its sizes are not known")
    content = read_json_object(folder / "config.json")
    vision = content.get("vision_config")
    if not isinstance(vision, dict):
        raise UserError(
            f"{name} {source}: its config.json has no vision_config, so it is no tower of "
            f"LanguageBind; the paper's is {PAPER_PARTS.model_dump()[name]}"
        )
    return vision


def _projector_file(source: str) -> Path:
    if Path(source).is_file():
        return Path(source)
    file = checkpoint_folder(source, (_PROJECTOR_FILE,)) / _PROJECTOR_FILE
    if not file.is_file():
        raise UserError(f"projector {source}: no {_PROJECTOR_FILE} in it")
    return file


# Reading


def _shards(folder: Path, source: str | Path) -> list[Path]:
    """Return the files of weights: those of an index, or the single file."""
    listed = indexed_files(folder, source)
    missing = [name for name in listed if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"{source}: {plural(len(missing), 'shard')} of {len(listed)} "
            f"{'is' if len(missing) == 1 else 'are'} missing "
            f"({and_more(missing, 3)}); download the checkpoint again"
        )
    if listed:
        return [folder / name for name in listed]
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return [folder / name]
    raise UserError(f"{source}: no weights in it (*.safetensors or pytorch_model*.bin)")


@dataclass(frozen=True, slots=True)
class _Shard:
    """A file of weights while it is open; what `read` gives lies in the file until it is used."""

    names: tuple[str, ...]
    shape: Callable[[str], tuple[int, ...]]
    read: Callable[[str], torch.Tensor]


@contextlib.contextmanager
def _opened(file: Path, source: str | Path) -> Iterator[_Shard]:
    """Open a shard; no pickle's code is run."""
    import pickle

    import torch
    from safetensors import SafetensorError, safe_open

    try:
        if file.suffix == ".safetensors":
            with safe_open(file, "pt") as weights:
                yield _Shard(
                    tuple(weights.keys()),
                    lambda name: tuple(weights.get_slice(name).get_shape()),
                    weights.get_tensor,
                )
        else:
            state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
            yield _Shard(
                tuple(state), lambda name: tuple(state[name].shape), lambda name: state[name]
            )
    except (
        *(SafetensorError, pickle.UnpicklingError),
        *(AttributeError, EOFError, OSError, RuntimeError, TypeError, ValueError),
    ) as error:  # what readers of broken files raise
        cause = [*str(error).strip().splitlines(), type(error).__name__][0][:120]
        raise UserError(f"{source}: {file.name} cannot be read ({cause})") from error


def _shapes(file: Path, source: str | Path) -> dict[str, tuple[int, ...]]:
    with _opened(file, source) as shard:
        return {name: shard.shape(name) for name in shard.names}


def _tokenizer(folder: Path, source: str | Path) -> Any:
    """Return a fast tokenizer of `tokenizer.model`, its added tokens, `<image>` and `<video>`.

    A space is put in front of a text, as sentencepiece does, and in front of what follows
    `<image>` and `<video>`, as the authors encode the text on both sides of a clip by itself. What
    follows another special token gets a space where the checkpoint's tokenizer is of the `legacy`
    kind: that is the slow tokenizer's default, and Vicuna v1.5 switches it off.
    """
    from tokenizers import Regex, Tokenizer, normalizers
    from transformers import AddedToken, LlamaTokenizer, PreTrainedTokenizerFast

    from sharegptvideo.models.checkpoints import quiet_transformers
    from sharegptvideo.models.prompts import VICUNA_V1

    if not (folder / _TOKENIZER).is_file():
        raise UserError(f"{source}: no {_TOKENIZER} in it; download the checkpoint again")
    try:
        for package in ("sentencepiece", "google.protobuf"):
            importlib.import_module(package)
    except ImportError as error:
        raise UserError(
            f"reading a {_TOKENIZER} needs sentencepiece and protobuf: {install_line('eval')}"
        ) from error
    slow: Any = LlamaTokenizer
    settings = folder / "tokenizer_config.json"
    legacy = not settings.is_file() or read_json_object(settings).get("legacy") is not False
    try:
        with quiet_transformers():
            read = slow.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # readers of sentencepiece files raise kinds of their own
        cause = str(error).strip().splitlines()[0][:120] if str(error) else type(error).__name__
        raise UserError(f"{source}: {_TOKENIZER} cannot be read ({cause})") from error
    content = json.loads(read.backend_tokenizer.to_str())
    for token in content["added_tokens"]:
        # Split off as they are written, or, not `legacy`, after the space is in place: then only
        # the text's beginning has one. `<image>` and `<video>` are split off before in both.
        token["normalized"] = not legacy
    backend = Tokenizer.from_str(json.dumps(content | {"pre_tokenizer": None}))
    added = "|".join(re.escape(token["content"]) for token in content["added_tokens"])
    in_front = r"\A" if legacy else rf"\A(?!{added})"
    backend.normalizer = normalizers.Sequence(
        [normalizers.Replace(Regex(in_front), "▁"), normalizers.Replace(" ", "▁")]
    )
    new: Any = PreTrainedTokenizerFast  # its constructor is untyped
    tokenizer = new(
        tokenizer_object=backend,
        bos_token=read.bos_token,
        eos_token=read.eos_token,
        unk_token=read.unk_token,
        pad_token=read.pad_token or read.unk_token,
        chat_template=VICUNA_V1,
        model_max_length=read.model_max_length,
    )
    marks = [AddedToken(mark, special=True, normalized=False) for mark in ("<image>", "<video>")]
    tokenizer.add_tokens(marks, special_tokens=True)
    return tokenizer


# The config


def _model_config(
    config: Mapping[str, Any],
    towers: tuple[dict[str, Any], dict[str, Any]],
    tokenizer: Any,
    source: str | Path,
) -> Any:
    """Return the model's config, of which a model can be made.

    Args:
        config: that of the language model, or of a checkpoint of the authors.
        towers: sizes of the image tower and the video tower.
    """
    from huggingface_hub.errors import StrictDataclassError

    from sharegptvideo.models.checkpoints import outline
    from sharegptvideo.models.llava_hound import LlavaHoundConfig

    image, video = towers
    text = {key: config[key] for key in _TEXT_FIELDS if config.get(key) is not None}
    ids = tokenizer.convert_tokens_to_ids
    kind: Any = LlavaHoundConfig  # its constructor takes all of a config's fields
    try:
        model_config = kind(
            vision_config={"model_type": "clip_vision_model"} | image,
            video_config={"model_type": "llava_hound_video"} | video,
            text_config={
                "model_type": "llama",
                "vocab_size": len(tokenizer),
                "pad_token_id": tokenizer.pad_token_id,
                "bos_token_id": tokenizer.bos_token_id,
                "eos_token_id": tokenizer.eos_token_id,
            }
            | text,
            image_token_index=ids("<image>"),
            video_token_index=ids("<video>"),
            vision_feature_layer=int(config.get("mm_vision_select_layer", -2)),
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        outline(model_config, dtype="float32")
    except (StrictDataclassError, KeyError, TypeError, ValueError) as error:
        cause = " ".join(str(error).split())
        raise UserError(
            f"{source}: its config and those of its towers make no model ({cause})"
        ) from error
    return model_config


def _check_time(video: Mapping[str, Any], weights: _Weights, fix: str) -> None:
    """Make sure that config and weights of the video tower agree on its temporal attention."""
    temporal = any(name.endswith(".temporal_embedding") for name in weights.shapes())
    if temporal != bool(video.get("add_time_attn")):
        raise UserError(
            f"{weights.source}: its video tower has {'' if temporal else 'no '}temporal attention, "
            f"and the tower's config says otherwise (add_time_attn "
            f"{str(bool(video.get('add_time_attn'))).lower()}); {fix}"
        )


def _tower_configs(
    config: Mapping[str, Any], towers: Path | None, source: str | Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the sizes of both towers, image first, of a checkpoint of the authors."""
    if towers is not None:
        given = read_json(towers)
        if not isinstance(given, dict) or not all(
            isinstance(given.get(k), dict) for k in ("image", "video")
        ):
            raise UserError(f'{towers}: expected {{"image": {{...}}, "video": {{...}}}}')
        raw = [given["image"], given["video"]]
    else:
        raw = [
            _repository_tower(str(config.get(f"mm_{kind}_tower")), kind, source)
            for kind in ("image", "video")
        ]
    return _known_sizes(raw)


def _known_sizes(raw: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fields that our classes have, of the image tower and the video tower."""
    from transformers import CLIPVisionConfig

    from sharegptvideo.models.llava_hound import LlavaHoundVideoConfig

    fields = [
        set(kind().to_dict()) - {"model_type", "architectures", "dtype", "transformers_version"}
        for kind in (CLIPVisionConfig, LlavaHoundVideoConfig)
    ]
    image, video = (
        {k: v for k, v in one.items() if k in known} for one, known in zip(raw, fields, strict=True)
    )
    return image, video


def _repository_tower(name: str, kind: str, source: str | Path) -> dict[str, Any]:
    try:
        folder = checkpoint_folder(name, ("config.json",))
        content = read_json_object(folder / "config.json")
    except UserError as error:
        raise UserError(
            f"{source}: the sizes of its {kind} tower are in the repository {name}, which cannot "
            f"be read ({error}); pass them with --towers FILE"
        ) from error
    vision = content.get("vision_config", content)
    return dict(vision)


_Places = list[dict[str, str]]


def _places(sources: Sequence[_Weights], config: Any) -> tuple[_Places, tuple[str, ...]]:
    """Return ours for each name of each source, and the names that are dropped."""
    from sharegptvideo.models.checkpoints import outline

    wanted = {
        name: tuple(w.shape) for name, w in outline(config, dtype="float32").state_dict().items()
    }
    places, dropped = [], []
    for weights in sources:
        of_source, left_out = _of_source(weights, wanted)
        places.append(of_source)
        dropped += left_out
    missing = sorted(set(wanted).difference(*(one.values() for one in places)))
    if missing:
        raise UserError(
            f"{' + '.join(str(one.source) for one in sources)}: "
            f"{plural(len(missing), 'weight')} that llava_hound needs "
            f"{'is' if len(missing) == 1 else 'are'} missing: {and_more(missing, 4)}"
        )
    return places, tuple(dropped)


def _of_source(
    weights: _Weights, wanted: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, str], list[str]]:
    """Return ours for each name of one source, and the names that are dropped."""
    source, shapes = weights.source, weights.shapes()
    dropped = [n for n in shapes if any(re.fullmatch(pattern, n) for pattern in weights.dropped)]
    places: dict[str, str] = {}
    wanting = dict.fromkeys(shapes)  # in the order of the files
    for name in dropped:
        del wanting[name]
    for name in wanting:
        for pattern, ours in weights.names:
            if re.fullmatch(pattern, name):
                places[name] = re.sub(f"^{pattern}$", ours, name)
                break
    homeless = [name for name in wanting if places.get(name) not in wanted]
    if homeless:
        adapters = any("lora_" in name for name in homeless)
        raise UserError(
            f"{source}: {plural(len(homeless), 'weight')} without a place in llava_hound: "
            f"{and_more(sorted(homeless), 4)}"
            + (f"; it holds adapters, {PAPER_PARTS.video_tower} has them merged" * adapters)
        )
    for name, ours in places.items():
        shape, expected = shapes[name], wanted[ours]
        if ours in _EMBEDDINGS:  # rows for <image> and <video> are added
            if shape[0] > expected[0] or shape[1:] != expected[1:]:
                raise UserError(
                    f"{source}: {name} is {_by(shape)}, the tokenizer has {expected[0]:,} ids and "
                    f"the config width {expected[1]:,}"
                )
        elif shape != expected:
            raise UserError(
                f"{source}: {name} is {_by(shape)}, its config says {_by(expected)}; a tower of "
                "another size needs its own config: pass it with --towers"
            )
    return places, dropped


def _by(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "a number"


# Writing


def _write_weights(
    sources: Sequence[_Weights], config: Any, out: Path, progress: Progress | None
) -> tuple[int, int, int, tuple[str, ...]]:
    """Write all weights in files of about a gigabyte.

    No more than one file's weights are in memory at a time, and a copy of them while it is
    written. A shard is opened again for each file: pages that were read stay until it is closed.

    Returns:
        weights, numbers in them, files, and the names that were dropped.
    """
    from safetensors.torch import save_file

    all_places, dropped = _places(sources, config)
    vocabulary = config.text_config.vocab_size
    held: dict[str, torch.Tensor] = {}
    files: list[list[str]] = []
    sizes: dict[str, int] = {}
    parameters = 0

    def flush() -> None:
        save_file(held, out / f"part-{len(files)}.safetensors", metadata={"format": "pt"})
        files.append(list(held))
        held.clear()

    shards = [
        (weights.source, file, places)
        for weights, places in zip(sources, all_places, strict=True)
        for file in weights.shards
    ]
    for source, file, places in shards:
        waiting = [name for name in _shapes(file, source) if name in places]
        while waiting:
            with _opened(file, source) as shard:
                while waiting and sum(sizes[one] for one in held) < _SHARD_BYTES:
                    name = waiting.pop(0)
                    ours, tensor = places[name], shard.read(name)
                    if ours in _EMBEDDINGS:
                        tensor = _with_marks(tensor, vocabulary)
                    held[ours] = tensor.contiguous()
                    sizes[ours] = tensor.nbytes
                    parameters += tensor.numel()
                    if progress:
                        progress(len(sizes), sum(map(len, all_places)), "writing weights")
            if waiting:
                flush()
    flush()
    index: dict[str, str] = {}
    for number, written in enumerate(files):
        name = f"model-{number + 1:05d}-of-{len(files):05d}.safetensors"
        (out / f"part-{number}.safetensors").rename(out / name)
        index |= dict.fromkeys(written, name)
    if len(files) == 1:
        (out / "model-00001-of-00001.safetensors").rename(out / "model.safetensors")
    else:
        write_json(
            out / "model.safetensors.index.json",
            {"metadata": {"total_size": sum(sizes.values())}, "weight_map": index},
        )
    return len(sizes), parameters, len(files), dropped


def _with_marks(rows: torch.Tensor, vocabulary: int) -> torch.Tensor:
    """Add rows up to `vocabulary`: each the mean of all, which no answer ever prefers.

    As rows of the head they give the mean of all logits, never the largest; as rows of the
    embeddings they are replaced by what clips and images look like.
    """
    import torch

    if len(rows) == vocabulary:
        return rows
    mean = rows.float().mean(0, keepdim=True).to(rows.dtype)
    return torch.cat([rows, mean.expand(vocabulary - len(rows), -1)])


def _write_rest(config: Any, tokenizer: Any, authors: Mapping[str, Any], out: Path) -> None:
    """Write config.json, the tokenizer, how pixels are made and how answers end."""
    from transformers import GenerationConfig

    from sharegptvideo.models.checkpoints import quiet_transformers
    from sharegptvideo.models.pixels import authors_processor

    config.architectures = ["LlavaHoundForConditionalGeneration"]
    config.dtype = authors.get("torch_dtype") or authors.get("dtype") or "float16"
    new: Any = GenerationConfig
    with quiet_transformers():
        config.save_pretrained(out)
        tokenizer.save_pretrained(out)
        new(
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ).save_pretrained(out)
    write_json(
        out / "processor_config.json",
        authors_processor(config.vision_config.image_size, config.vision_config.patch_size),
    )
