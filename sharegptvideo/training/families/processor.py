"""Video models that come with a processor of transformers, in training.

A row's text goes through the checkpoint's own chat template, and a clip through its processor,
as `sharegptvideo.models.processor` does for answers: training sees the prompts of evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch

from sharegptvideo.errors import UserError
from sharegptvideo.media import sample_frames
from sharegptvideo.media.facts import read_facts
from sharegptvideo.media.video import spread
from sharegptvideo.models import (
    ProcessorModel,
    conversation,
    load_model,
    model_type,
    quiet_transformers,
)
from sharegptvideo.models.processor import clip_metadata, reserved_marks
from sharegptvideo.models.prompts import begin_once, template_errors
from sharegptvideo.training.families.base import (
    PIXELS,
    Clip,
    ClipReader,
    Family,
    ends_of,
    filler_of,
)
from sharegptvideo.training.precompute.fingerprints import digest

if TYPE_CHECKING:
    from sharegptvideo.models.prompts import Kind
    from sharegptvideo.training.mix import Visual
    from sharegptvideo.training.recipes import Freeze, Recipe

__all__ = ["PARTS", "ProcessorFamily", "ProcessorReader"]

PARTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "llava_onevision": (("vision_tower",), ("multi_modal_projector", "image_newline")),
    "qwen2_5_vl": (("visual",), ("visual.merger",)),
    "qwen2_vl": (("visual",), ("visual.merger",)),
    "qwen3_vl": (("visual",), ("visual.merger", "visual.deepstack_merger_list")),
}
"""For each model type the parts of the tower and those of the projector, which may lie within."""

_IDS = "input_ids"
_OF_TEXT = ("attention_mask", "mm_token_type_ids")
_ROLES = {"system", "user", "assistant"}
# In place of an answer while the template is filled in: a character that no text has.
_MARK = "\ue0a7"


class ProcessorReader(ClipReader):
    """Clips through a processor, kept as uint8 until they are in a batch.

    Args:
        processor: of transformers.
        frames: taken evenly from a clip.
        pad_id: token id that fills a row up.
    """

    def __init__(self, processor: Any, frames: int, pad_id: int) -> None:
        self.processor = processor
        self.frames = frames
        self.video_id: int = processor.video_token_id
        tokenizer = processor.tokenizer
        self.pad_id = pad_id
        self._special = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()}
        self._counts: dict[str, int] = {}
        self._shapes: dict[tuple[int, int], dict[str, Any]] = {}
        indices = range(frames)
        tried = {self._length(*size, indices, None) for size in ((640, 360), (360, 640), (64, 64))}
        self.video_tokens = tried.pop() if len(tried) == 1 else 0

    def read(self, path: str) -> Clip:
        """Decode to what the processor makes of a clip, pixels unscaled, and its `input_ids`."""
        frames, indices = sample_frames(path, self.frames)
        video = torch.from_numpy(frames).permute(0, 3, 1, 2)
        return self._processed(video, indices, read_facts(Path(path)).fps)

    def count(self, path: str) -> int:
        """How many positions a clip takes, from what its container says of it."""
        if path not in self._counts:
            facts = read_facts(Path(path))
            if facts.width and facts.height and facts.frames:
                indices = spread(facts.frames, self.frames)
                self._counts[path] = self._length(facts.width, facts.height, indices, facts.fps)
            else:
                self._counts[path] = self.read(path)[_IDS].numel()
        return self._counts[path]

    def kept_bytes(self, visual: Visual) -> int:
        """Return the bytes of a clip's pixels, by its size; 0 where nothing is known of that."""
        facts = read_facts(Path(visual.path))
        if not facts.width or not facts.height:
            return 0
        pixels: torch.Tensor = self._shape(facts.width, facts.height)[PIXELS]
        return pixels.numel()

    def decoding(self) -> str:
        """Return a key of the processor, of what it writes for a clip, and of the frames."""
        tokenizer = self.processor.tokenizer
        vocabulary = digest(type(tokenizer).__name__, sorted(tokenizer.get_vocab().items()))
        return digest(self.frames, self.processor.video_processor.to_json_string(), vocabulary)

    def _length(self, width: int, height: int, indices: Sequence[int], fps: float | None) -> int:
        """Tokens that the processor writes for a clip, times of frames included."""
        text = self.processor.replace_video_token(
            self._shape(width, height) | {"video_metadata": [clip_metadata(indices, fps)]},
            video_idx=0,
        )
        return len(self.processor.tokenizer(text, add_special_tokens=False)[_IDS])

    def _shape(self, width: int, height: int) -> dict[str, Any]:
        """Return what the video processor makes of clips of a size, with meta pixels."""
        if (width, height) not in self._shapes:
            blank = torch.zeros(self.frames, 3, height, width, dtype=torch.uint8)
            with quiet_transformers():
                made = self.processor.video_processor(
                    [blank],
                    video_metadata=[clip_metadata(range(self.frames), None)],
                    do_sample_frames=False,
                    return_tensors="pt",
                )
            self._shapes[width, height] = {
                name: value.to("meta") if name == PIXELS else value for name, value in made.items()
            }
        return self._shapes[width, height]

    def _processed(self, video: torch.Tensor, indices: Sequence[int], fps: float | None) -> Clip:
        with quiet_transformers():
            made = self.processor(
                text=[self.processor.video_token],
                videos=[video],
                video_metadata=[clip_metadata(indices, fps)],
                do_sample_frames=False,
                do_rescale=False,
                do_normalize=False,
                return_tensors="pt",
            )
        return {name: value for name, value in made.items() if name not in _OF_TEXT}

    def expand(
        self, ids: list[int], assistant_mask: list[bool], clip: Clip
    ) -> tuple[list[int], list[bool]]:
        """Put what the processor writes for a clip, times of frames included, in its place.

        Text before the clip is tokenised anew with the clip's own first text (Qwen3-VL begins
        with a time), as the processor does for the whole prompt.
        """
        at = ids.index(self.video_id)
        own: list[int] = clip[_IDS].flatten().tolist()
        start, first = at, 0
        if own[0] not in self._special:
            while start and ids[start - 1] not in self._special:
                start -= 1
            while own[first] not in self._special:
                first += 1
            tokenizer = self.processor.tokenizer
            text = tokenizer.decode([*ids[start:at], *own[:first]])
            own = tokenizer(text, add_special_tokens=False)[_IDS] + own[first:]
        return (
            ids[:start] + own + ids[at + 1 :],
            assistant_mask[:start] + [False] * len(own) + assistant_mask[at + 1 :],
        )

    def batch(self, clips: Sequence[Clip]) -> dict[str, torch.Tensor]:
        """Join the processor's tensors but those of text, clips one after the other."""
        names = [name for name in clips[0] if name != _IDS]
        joined = {name: torch.cat([clip[name] for clip in clips]) for name in names}
        return joined | {PIXELS: self._normalised(joined[PIXELS])}

    def _normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        """Scaled as the processor would have; Qwen's are rows of flattened patches."""
        own = self.processor.video_processor
        pictures = pixels
        if pixels.dim() == 2:
            pictures = pixels.view(len(pixels), 3, -1, own.patch_size)
        scaled: torch.Tensor = own.rescale_and_normalize(
            pictures,
            own.do_rescale,
            own.rescale_factor,
            own.do_normalize,
            tuple(own.image_mean),
            tuple(own.image_std),
        )
        return scaled.view(pixels.shape)


class ProcessorFamily(Family):
    """A video model of transformers whose tower and projector are named in `PARTS`."""

    reader: ProcessorReader
    _conversations: _Conversations

    def __init__(self, model: Any) -> None:
        """Take a model alone.

        Raises:
            KeyError: an architecture that is not in `PARTS`.
        """
        super().__init__(model)
        self._tower, self._projector = PARTS[model.config.model_type]

    @classmethod
    def open(cls, recipe: Recipe, *, weights: bool = True) -> Self:
        """Load the recipe's model with its processor.

        Raises:
            UserError: an architecture that is not in `PARTS`, or see `ProcessorModel`.
        """
        kind = model_type(recipe.start)
        if kind not in PARTS:
            raise UserError(
                f"model {recipe.start}: architecture {kind!r} cannot be trained here; "
                f"these can: video_llava, {', '.join(PARTS)}"
            )
        if recipe.system is not None:
            raise UserError(
                f"system: {kind} has a chat template of its own, which is kept; set system=null"
            )
        local = ProcessorModel(recipe.start)
        dtype = cls.weights_dtype(recipe)
        family = cls(load_model(recipe.start, dtype=dtype, weights=weights))
        family.tokenizer = local.tokenizer
        rows = family.model.config.get_text_config().vocab_size
        pad_id = filler_of(local.tokenizer, rows)
        family.reader = ProcessorReader(local.processor, recipe.frames, pad_id)
        generation = family.model.generation_config
        family._conversations = _Conversations(recipe.start, local.processor, generation)
        ids, _ = family.encode(conversation("?"))
        if ids.count(family.reader.video_id) != 1:
            raise UserError(
                f"model {recipe.start}: its chat template has no place for a clip "
                f"({local.processor.video_token}); take the template of the model's makers"
            )
        return family

    def encode(
        self,
        messages: Sequence[Mapping[str, Any]],
        about: Kind = "video",  # noqa: ARG002 - clips only
    ) -> tuple[list[int], list[bool]]:
        """Encode as `_Conversations` does."""
        return self._conversations.encode(messages)

    def freeze(self, parts: Freeze) -> None:
        """Fix `parts`; Qwen's projector is its merger, the last layer within the tower."""
        inner = self.model.model
        inner.requires_grad_(not parts.language_model)
        self.model.get_output_embeddings().requires_grad_(not parts.language_model)
        for names, frozen in (
            (self._tower, parts.vision_tower),
            (self._projector, parts.projector),
        ):
            for weight in _weights(inner, names):
                weight.requires_grad_(not frozen)

    def _vision_weights(self) -> list[torch.nn.Parameter]:
        return _weights(self.model.model, (*self._tower, *self._projector))

    def _encode(self, model: Any, clips: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Encode by tower and projector, with the outputs of Qwen3-VL's deeper layers."""
        pixels = clips[PIXELS].to(model.dtype)
        given = {name: clips[name] for name in ("video_grid_thw",) if name in clips}
        inner = model.model
        features = inner.get_video_features(pixel_values_videos=pixels, return_dict=True, **given)
        return {"video": features}

    def positions(
        self,
        model: Any,
        ids: torch.Tensor,
        mask: torch.Tensor,
        clips: dict[str, torch.Tensor],
        clip_of_row: torch.Tensor,
    ) -> torch.Tensor | None:
        """Compute by the model's own `get_rope_index`: 3×rows×length (time, height, width)."""
        inner = model.model
        if not hasattr(inner, "get_rope_index"):
            return None
        of_rows = {name: value[clip_of_row] for name, value in clips.items() if name != PIXELS}
        kinds = torch.where(ids == self.reader.video_id, 2, 0)
        positions: torch.Tensor = inner.get_rope_index(
            ids, mm_token_type_ids=kinds, attention_mask=mask, **of_rows
        )[0]
        return positions


def _weights(inner: Any, names: Sequence[str]) -> list[torch.nn.Parameter]:
    """Return the parameters of the parts called `names`, which may be parameters themselves."""
    return [
        weight
        for name, weight in inner.named_parameters()
        if any(name == part or name.startswith(f"{part}.") for part in names)
    ]


class _Conversations:
    """Turns conversations on one clip into ids, and says which the assistant speaks.

    An answer follows exactly what generation is prompted with, and is learnt with the token that
    ends it. Some templates write finished turns otherwise than they prompt (LLaVA-OneVision puts
    a space before an answer's line); the ids of a whole rendered conversation would then teach
    answers to a prompt that never comes.

    Args:
        name: of the model, for messages.
        processor: of transformers.
        generation: the model's generation config, which says what ends an answer.
    """

    def __init__(self, name: str, processor: Any, generation: Any) -> None:
        self._name = name
        self._processor = processor
        self._ends = ends_of(generation, processor.tokenizer)

    def encode(self, messages: Sequence[Mapping[str, Any]]) -> tuple[list[int], list[bool]]:
        """Return ids, the clip as one token before the first user's text, and the assistant mask.

        A conversation that ends with the user's turn ends in the prompt for an answer.

        Args:
            messages: `{"role": "system" | "user" | "assistant", "content": text}`.

        Raises:
            UserError: a text holds one of the model's own marks, or the roles make no
                conversation.
        """
        self._check(messages)
        turns = _turns(messages)
        ids: list[int] = []
        assistant_mask: list[bool] = []

        def add(more: list[int], said: int = 0) -> None:
            ids.extend(more)
            assistant_mask.extend([True] * said + [False] * (len(more) - said))

        given = 0  # tokens of the turn's end that the answer before has brought
        for number, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            prompt = self._render(turns[:number], generation=True)
            add(self._ids(prompt.rpartition(_MARK)[2], begin=not ids)[given:])
            end = self._end(self._render(turns[: number + 1], generation=False))
            answer = self._ids(message["content"])
            add(answer + end, said=len(answer) + len(end))
            given = len(end)
        if messages[-1]["role"] == "user":
            prompt = self._render(turns, generation=True)
            add(self._ids(prompt.rpartition(_MARK)[2], begin=not ids)[given:])
        return ids, assistant_mask

    def _end(self, rendered: str) -> list[int]:
        """Return what closes an answer, up to its last token; what follows is not generated."""
        closing = self._ids(rendered.rpartition(_MARK)[2])
        for number, token in enumerate(closing, 1):
            if token in self._ends:
                return closing[:number]
        raise UserError(
            f"model {self._name}: its chat template closes an answer with "
            f"{rendered.rpartition(_MARK)[2]!r}, where nothing ends generation; name the closing "
            "token as eos_token_id in generation_config.json"
        )

    def _render(self, turns: Sequence[dict[str, Any]], *, generation: bool) -> str:
        with template_errors():
            return str(
                self._processor.apply_chat_template(
                    list(turns), tokenize=False, add_generation_prompt=generation
                )
            )

    def _ids(self, text: str, *, begin: bool = False) -> list[int]:
        """Encode a part of a conversation; `begin`: its first, which begins with the mark once."""
        tokenizer = self._processor.tokenizer
        settings = begin_once(tokenizer, text) if begin else {"add_special_tokens": False}
        return list(tokenizer(text, **settings)["input_ids"])

    def _check(self, messages: Sequence[Mapping[str, Any]]) -> None:
        roles = [message["role"] for message in messages]
        if not _ROLES.issuperset(roles) or "user" not in roles or roles[-1] == "system":
            raise UserError(f"messages: the roles {roles} make no conversation about a clip")
        marks = reserved_marks(self._processor) | {_MARK}
        for message in messages:
            held = sorted(mark for mark in marks if mark in message["content"])
            if held:
                raise UserError(
                    f"messages: a text may not hold the model's own mark {held[0]!r}: "
                    f"{message['content']!r}"
                )


def _turns(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """As chat templates take them: the clip in the first user's turn, a mark for each answer."""
    turns = []
    clip: list[dict[str, Any]] = [{"type": "video"}]
    for message in messages:
        is_answer = message["role"] == "assistant"
        content = [{"type": "text", "text": _MARK if is_answer else message["content"]}]
        if message["role"] == "user":
            content, clip = clip + content, []
        turns.append({"role": message["role"], "content": content})
    return turns
