"""Checkpoints in the authors' layout (`llava_llama`, towers inside) as `llava_hound` checkpoints.

Weights move under their new names, shard by shard. A weight without a place, or a place without a
weight, is an error; what is dropped on purpose is listed in `DROPPED`.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharegptvideo._concurrency import Progress
from sharegptvideo._io import follow_umask, os_errors, read_json, write_json
from sharegptvideo._text import and_more, plural
from sharegptvideo.errors import UserError
from sharegptvideo.models.checkpoints import AUTHORS, IMAGE_ONLY, checkpoint_folder

if TYPE_CHECKING:
    import torch

__all__ = ["DROPPED", "Converted", "convert_checkpoint"]

NAMES = (
    (r"model\.image_tower\.image_tower\.(?:vision_model\.)?(.+)", r"model.image_tower.\1"),
    (r"model\.video_tower\.video_tower\.(?:vision_model\.)?(.+)", r"model.video_tower.\1"),
    (r"model\.mm_projector\.0\.(.+)", r"model.multi_modal_projector.linear_1.\1"),
    (r"model\.mm_projector\.2\.(.+)", r"model.multi_modal_projector.linear_2.\1"),
    (r"model\.((?:embed_tokens|layers|norm)\..+)", r"model.language_model.\1"),
    (r"(lm_head\..+)", r"\1"),
)
"""The authors' names (a whole match) and ours."""

DROPPED = (r".*\.rotary_emb\.inv_freq", r".*\.embeddings\.position_ids")
"""Tensors that follow from the config and are no weights."""

_EMBEDDINGS = ("model.language_model.embed_tokens.weight", "lm_head.weight")
_SHARD_BYTES = 1 << 30
_TOKENIZER = "tokenizer.model"
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
        progress: called with shards done, shards in all, and what is done.

    Raises:
        UserError: another family of models, missing or unreadable shards, sizes that differ from
            the towers' configs, a weight without a place or a place without a weight, or `to` is
            there already.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UserError(f"{to}: is there already; pass another --to, or remove it")
    folder = checkpoint_folder(source, _FILES)
    config = _authors_config(folder, source)
    shards = {file: _shapes(file, source) for file in _shards(folder, source)}
    tokenizer = _tokenizer(folder, source)
    names = {name: shape for shapes in shards.values() for name, shape in shapes.items()}
    model_config = _model_config(config, names, towers, tokenizer, source)
    places, dropped = _places(names, model_config, source)
    partial = to.parent / f".{to.name}.unfinished"
    shutil.rmtree(partial, ignore_errors=True)
    with os_errors(to, hint="free some space, or pass another --to"):
        partial.mkdir(parents=True)
        try:
            written = _write_weights(shards, places, len(tokenizer), partial, progress)
            _write_rest(model_config, tokenizer, config, partial)
            follow_umask(partial.glob("*.safetensors"))
            if to.is_dir():
                to.rmdir()
            partial.rename(to)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return Converted(to, *written, dropped, int(model_config.video_seq_length))


def _authors_config(folder: Path, source: str | Path) -> dict[str, Any]:
    if not (folder / "config.json").is_file():
        raise UserError(f"{source}: no config.json in it; a whole checkpoint is needed")
    config: dict[str, Any] = read_json(folder / "config.json")
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
    return config


# Reading


def _shards(folder: Path, source: str | Path) -> list[Path]:
    """Return the files of weights: those of an index, or the single file."""
    for index in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
        if (folder / index).is_file():
            listed = sorted(set(read_json(folder / index)["weight_map"].values()))
            missing = [name for name in listed if not (folder / name).is_file()]
            if missing:
                raise UserError(
                    f"{source}: {plural(len(missing), 'shard')} of {len(listed)} "
                    f"{'is' if len(missing) == 1 else 'are'} missing "
                    f"({and_more(missing, 3)}); download the checkpoint again"
                )
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
        needed = "sentencepiece and protobuf: pip install sentencepiece protobuf"
        raise UserError(f"reading a {_TOKENIZER} needs {needed}") from error
    slow: Any = LlamaTokenizer
    settings = folder / "tokenizer_config.json"
    legacy = not settings.is_file() or read_json(settings).get("legacy") is not False
    try:
        with quiet_transformers():
            read = slow.from_pretrained(folder)
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
    names: Mapping[str, tuple[int, ...]],
    towers: Path | None,
    tokenizer: Any,
    source: str | Path,
) -> Any:
    from sharegptvideo.models.llava_hound import LlavaHoundConfig

    image, video = _tower_configs(config, towers, source)
    temporal = [shape for name, shape in names.items() if name.endswith(".temporal_embedding")]
    if bool(temporal) != bool(video.get("add_time_attn")):
        has = "has" if temporal else "has no"
        raise UserError(
            f"{source}: its video tower {has} temporal attention, and the tower's config says "
            f"otherwise (add_time_attn {str(bool(video.get('add_time_attn'))).lower()}); pass the "
            "right one with --towers"
        )
    text = {key: config[key] for key in _TEXT_FIELDS if config.get(key) is not None}
    ids = tokenizer.convert_tokens_to_ids
    kind: Any = LlavaHoundConfig  # its constructor takes all of a config's fields
    return kind(
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


def _tower_configs(
    config: Mapping[str, Any], towers: Path | None, source: str | Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the sizes of both towers, image first: those fields that our classes have."""
    from transformers import CLIPVisionConfig

    from sharegptvideo.models.llava_hound import LlavaHoundVideoConfig

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
        content = read_json(folder / "config.json")
    except UserError as error:
        raise UserError(
            f"{source}: the sizes of its {kind} tower are in the repository {name}, which cannot "
            f"be read ({error}); pass them with --towers FILE"
        ) from error
    vision = content.get("vision_config", content)
    return dict(vision)


def _places(
    names: Mapping[str, tuple[int, ...]], config: Any, source: str | Path
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return ours for each of the authors' names, and the names that are dropped."""
    from sharegptvideo.models.checkpoints import outline

    places: dict[str, str] = {}
    dropped, homeless = [], []
    for name in names:
        if any(re.fullmatch(pattern, name) for pattern in DROPPED):
            dropped.append(name)
            continue
        for pattern, ours in NAMES:
            if re.fullmatch(pattern, name):
                places[name] = re.sub(f"^{pattern}$", ours, name)
                break
        else:
            homeless.append(name)
    wanted = {
        name: tuple(w.shape) for name, w in outline(config, dtype="float32").state_dict().items()
    }
    homeless += [name for name, ours in places.items() if ours not in wanted]
    if homeless:
        raise UserError(
            f"{source}: {plural(len(homeless), 'weight')} without a place in llava_hound: "
            f"{and_more(sorted(homeless), 4)}"
        )
    missing = sorted(set(wanted) - set(places.values()))
    if missing:
        raise UserError(
            f"{source}: {plural(len(missing), 'weight')} that llava_hound needs "
            f"{'is' if len(missing) == 1 else 'are'} missing: {and_more(missing, 4)}"
        )
    for name, ours in places.items():
        shape, expected = names[name], wanted[ours]
        if ours in _EMBEDDINGS:  # rows for <image> and <video> are added
            if shape[0] > expected[0] or shape[1:] != expected[1:]:
                raise UserError(
                    f"{source}: {name} is {_by(shape)}, the tokenizer has {expected[0]:,} ids"
                )
        elif shape != expected:
            raise UserError(
                f"{source}: {name} is {_by(shape)}, its config says {_by(expected)}; a tower of "
                "another size needs its own config: pass it with --towers"
            )
    return places, tuple(dropped)


def _by(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "a number"


# Writing


def _write_weights(
    shards: Mapping[Path, Mapping[str, tuple[int, ...]]],
    places: Mapping[str, str],
    vocabulary: int,
    out: Path,
    progress: Progress | None,
) -> tuple[int, int, int]:
    """Write all weights in files of about a gigabyte; returns weights, numbers and files.

    No more than one file's weights are in memory at a time, and a copy of them while it is
    written. A shard is opened again for each file: pages that were read stay until it is closed.
    """
    from safetensors.torch import save_file

    held: dict[str, torch.Tensor] = {}
    files: list[list[str]] = []
    sizes: dict[str, int] = {}
    parameters = 0

    def flush() -> None:
        save_file(held, out / f"part-{len(files)}.safetensors", metadata={"format": "pt"})
        files.append(list(held))
        held.clear()

    for number, (shard, names) in enumerate(shards.items()):
        waiting = [name for name in names if name in places]
        while waiting:
            with _opened(shard, shard.parent) as weights:
                while waiting and sum(sizes[one] for one in held) < _SHARD_BYTES:
                    name = waiting.pop(0)
                    ours, tensor = places[name], weights.read(name)
                    if ours in _EMBEDDINGS:
                        tensor = _with_marks(tensor, vocabulary)
                    held[ours] = tensor.contiguous()
                    sizes[ours] = tensor.nbytes
                    parameters += tensor.numel()
            if waiting:
                flush()
        if progress:
            progress(number + 1, len(shards), "converting")
    flush()
    index: dict[str, str] = {}
    for number, written in enumerate(files):
        file = f"model-{number + 1:05d}-of-{len(files):05d}.safetensors"
        (out / f"part-{number}.safetensors").rename(out / file)
        index |= dict.fromkeys(written, file)
    if len(files) == 1:
        (out / "model-00001-of-00001.safetensors").rename(out / "model.safetensors")
    else:
        write_json(
            out / "model.safetensors.index.json",
            {"metadata": {"total_size": sum(sizes.values())}, "weight_map": index},
        )
    return len(sizes), parameters, len(files)


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
    config.dtype = authors.get("torch_dtype") or "float16"
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
