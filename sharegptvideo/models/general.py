"""Answers from any video model of transformers that comes with a processor.

A clip's part of the prompt is the same for all questions about it: the vision tower and the
language model run over it once, and the questions are then decoded together behind that cache
(`shared_prefix`) by transformers' own `generate`. Where an architecture is not known to allow this
(`shares_prefix`), every question is a plain `generate`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sharegptvideo._concurrency import limit_torch_threads
from sharegptvideo.errors import UserError
from sharegptvideo.models.checkpoints import quiet_transformers
from sharegptvideo.models.hub import checkpoint_folder
from sharegptvideo.models.memory import cache_bytes, fitting_rows, free_bytes, in_parts
from sharegptvideo.models.pixels import Frames
from sharegptvideo.models.processors import (
    OneClip,
    clip_metadata,
    load_processor,
    render_question,
)
from sharegptvideo.models.shared_prefix import SharedPrefixCache, attending_to_prefixes

__all__ = ["SHARING", "ClipTimes", "GeneralVideoModel", "shares_prefix"]

SHARING = frozenset(
    {
        "internvl",
        "llava_next_video",
        "llava_onevision",
        "qwen2_5_vl",
        "qwen2_vl",
        "qwen3_vl",
        "smolvlm",
        "video_llama_3",
    }
)
"""Model types whose answers on a shared cache `tests/peers` compares with plain `generate`."""

_PER_TOKEN = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids")


@dataclass(frozen=True, slots=True)
class ClipTimes:
    """Where the frames of a clip stand in it.

    Attributes:
        indices: number of each frame, from 0.
        fps: frames a second; None: not known, and taken for 2, the rate of the release's folders.
    """

    indices: Sequence[int]
    fps: float | None = None


@dataclass(frozen=True, slots=True)
class _Prompt:
    """A question as the model gets it.

    All inputs of it alone, its ids as a list, the position of each (the last two dimensions are
    1×tokens; models with positions in time and space have one before them), and where the clip's
    part ends (0: nowhere before the prompt's end).
    """

    number: int
    inputs: dict[str, Any]
    ids: list[int]
    positions: torch.Tensor
    clip_end: int


def shares_prefix(config: Any, generation: Any = None) -> bool:
    """Whether questions about a clip may share its cache, by config and generation config.

    A type in `SHARING`, attention over everything before in every layer (a sliding window would
    count padding), and no rule of generation that looks at the order of the prompt's tokens.
    """
    text = config.get_text_config()
    layers = set(getattr(text, "layer_types", None) or ()) - {"full_attention"}
    sliding = bool(getattr(text, "use_sliding_window", False))
    ordered = getattr(generation, "no_repeat_ngram_size", None)
    return config.model_type in SHARING and not layers and not sliding and not ordered


class GeneralVideoModel:
    """A loaded video model with its processor.

    Attributes:
        model: in evaluation mode.
        processor: of transformers.
        shares: whether the questions about a clip share its cache.
        memory_limit: bytes that the caches of questions decoded together may take; None: what is
            free on the device.
    """

    def __init__(self, model: Any, processor: Any, *, shares: bool | None = None) -> None:
        self.model = model
        self.processor = processor
        known = shares_prefix(model.config, model.generation_config)
        self.shares = known if shares is None else shares
        self.memory_limit: int | None = None
        stop = model.generation_config.eos_token_id
        stop = processor.tokenizer.eos_token_id if stop is None else stop
        self._stop: list[int] = stop if isinstance(stop, list) else [stop]
        marks = {
            getattr(source, f"{kind}_token_id", None)
            for source in (processor, model.config)
            for kind in ("image", "video")
        }
        self._clip_ids = marks - {None}

    @classmethod
    def from_pretrained(
        cls, path: str, device: str | None = None, dtype: str | torch.dtype | None = None
    ) -> GeneralVideoModel:
        """Load from a folder or a Hub id.

        Args:
            device: default: a CUDA device where there is one, else the CPU.
            dtype: a torch dtype or its name; default: float32 on the CPU, else as saved.

        Raises:
            UserError: see `load_processor`; or no weights.
        """
        from safetensors import SafetensorError
        from transformers import AutoModelForImageTextToText

        processor = load_processor(path)
        place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if dtype is None:
            dtype = "float32" if place.type == "cpu" else "auto"
        folder = checkpoint_folder(path)
        try:
            with quiet_transformers():
                model: Any = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype)
        except (OSError, SafetensorError) as error:
            cause = str(error).strip().splitlines()[0]
            raise UserError(f"model {path}: the weights cannot be read ({cause})") from error
        limit_torch_threads(model.num_parameters() if place.type == "cpu" else None)
        return cls(model.to(place).eval(), processor)

    def generate(
        self,
        frames: Frames,
        questions: Sequence[str],
        *,
        times: ClipTimes | None = None,
        max_new_tokens: int = 128,
        batch_size: int = 64,
    ) -> list[str]:
        """Answer questions about one clip (uint8 n×H×W×3, RGB) greedily.

        The model's generation config holds otherwise, a repetition penalty in it included.

        Raises:
            UserError: a question that cannot be put (see `render_question`), frames that the
                processor refuses, or a prompt longer than the model's positions.
        """
        tokens = self.generate_ids(
            frames, questions, times=times, max_new_tokens=max_new_tokens, batch_size=batch_size
        )
        texts = self.processor.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [str(text).strip() for text in texts]

    def generate_ids(
        self,
        frames: Frames,
        questions: Sequence[str],
        *,
        times: ClipTimes | None = None,
        max_new_tokens: int = 128,
        batch_size: int = 64,
    ) -> list[list[int]]:
        """Like `generate`, but token ids; the closing token, where it came, is the last."""
        answers: list[list[int]] = [[] for _ in questions]
        with torch.inference_mode(), quiet_transformers():
            for group in self._groups(self._prompts(frames, questions, times)):
                if self.shares and group[0].clip_end:
                    found = self._on_one_cache(group, max_new_tokens, batch_size)
                else:
                    found = [self._plain(prompt, max_new_tokens) for prompt in group]
                for prompt, ids in zip(group, found, strict=True):
                    answers[prompt.number] = ids
        return answers

    def _prompts(
        self, frames: Frames, questions: Sequence[str], times: ClipTimes | None
    ) -> Iterator[_Prompt]:
        times = times or ClipTimes(range(len(frames)))
        # A processor for itself: what it prepares of the clip is forgotten with this call.
        processor = copy.copy(self.processor)
        processor.video_processor = OneClip(self.processor.video_processor)
        video = torch.from_numpy(frames).permute(0, 3, 1, 2)
        limit = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        for number, question in enumerate(questions):
            text = render_question(self.processor, question)
            try:
                found = processor(
                    text=[text],
                    videos=[video],
                    video_metadata=[clip_metadata(times.indices, times.fps)],
                    do_sample_frames=False,
                    return_tensors="pt",
                )
            except ValueError as error:
                cause = " ".join(str(error).split())
                raise UserError(f"the model's processor refuses the clip ({cause})") from error
            inputs = dict(found.items())
            ids: list[int] = inputs["input_ids"][0].tolist()
            if limit is not None and len(ids) >= limit:
                raise UserError(
                    f"a prompt of {len(ids)} tokens leaves no room in {limit} positions"
                )
            ends = [at + 1 for at, token in enumerate(ids) if token in self._clip_ids]
            clip_end = ends[-1] if ends and ends[-1] < len(ids) else 0
            yield _Prompt(number, inputs, ids, self._positions(inputs), clip_end)

    def _positions(self, inputs: dict[str, Any]) -> torch.Tensor:
        """Those that `generate` works out for a prompt of its own, by the same method."""
        others = {name: value for name, value in inputs.items() if name != "input_ids"}
        found: torch.Tensor = self.model._prepare_position_ids_for_generation(
            inputs["input_ids"], others
        )
        return found

    def _placed(self, name: str, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        if name.startswith("pixel_values"):
            return value.to(self.model.device, self.model.dtype)
        return value.to(self.model.device)

    def _groups(self, prompts: Iterable[_Prompt]) -> list[list[_Prompt]]:
        """Prompts that are equal up to the clip's end, which mostly are all of them."""
        groups: dict[tuple[int, ...], list[_Prompt]] = {}
        for prompt in prompts:
            group = groups.setdefault(tuple(prompt.ids[: prompt.clip_end]), [])
            if group and self.shares and prompt.clip_end:
                prompt.inputs.clear()  # the first one's pixels are enough
            group.append(prompt)
        return list(groups.values())

    def _plain(self, prompt: _Prompt, steps: int) -> list[int]:
        inputs = {name: self._placed(name, value) for name, value in prompt.inputs.items()}
        output = self.model.generate(**inputs, **self._greedy(steps))
        return self._until_stop(output[0, len(prompt.ids) :].tolist())

    def _on_one_cache(
        self, group: Sequence[_Prompt], steps: int, batch_size: int
    ) -> list[list[int]]:
        end = group[0].clip_end
        first = {
            name: self._placed(name, value[:, :end] if name in _PER_TOKEN else value)
            for name, value in group[0].inputs.items()
        }
        first["position_ids"] = group[0].positions[..., :end].to(self.model.device)
        cache = self.model(**first, use_cache=True, logits_to_keep=1).past_key_values
        # By length, so that little is padded; a row's answer does not depend on its company.
        order = sorted(range(len(group)), key=lambda at: len(group[at].ids))
        longest = len(group[order[-1]].ids) - end + steps
        free = self.memory_limit or free_bytes(self.model.device)
        fitting = fitting_rows(cache_bytes(cache, longest), free)
        found = in_parts(
            [group[at] for at in order],
            lambda part: self._decode(part, cache, end, steps),
            most=min(batch_size, fitting or batch_size),
        )
        back = dict(zip(order, found, strict=True))
        return [back[at] for at in range(len(group))]

    def _decode(self, part: Sequence[_Prompt], cache: Any, end: int, steps: int) -> list[list[int]]:
        """Questions behind one clip, padded between it and them."""
        longest = max(len(prompt.ids) for prompt in part)
        gaps = [longest - len(prompt.ids) for prompt in part]
        # Padding repeats a token of the row itself: a repetition penalty then changes nothing.
        rows = [
            [*prompt.ids[:end], *[prompt.ids[-1]] * gap, *prompt.ids[end:]]
            for prompt, gap in zip(part, gaps, strict=True)
        ]
        mask = [[1] * end + [0] * gap + [1] * (longest - end - gap) for gap in gaps]
        positions = [
            torch.cat(
                [at[..., :end], at[..., end - 1 : end].repeat_interleave(gap, -1), at[..., end:]],
                -1,
            )
            for at, gap in zip((prompt.positions for prompt in part), gaps, strict=True)
        ]
        with attending_to_prefixes(self.model.config.get_text_config()):
            output = self.model.generate(
                input_ids=torch.tensor(rows, device=self.model.device),
                attention_mask=torch.tensor(mask, device=self.model.device),
                position_ids=torch.cat(positions, dim=-2).to(self.model.device),
                past_key_values=SharedPrefixCache(cache, [0] * len(part), ahead=steps),
                **self._greedy(steps),
            )
        return [self._until_stop(row[longest:].tolist()) for row in output]

    def _greedy(self, steps: int) -> dict[str, Any]:
        pad = self.processor.tokenizer.pad_token_id
        return {
            "max_new_tokens": steps,
            "do_sample": False,
            "num_beams": 1,
            "temperature": None,
            "top_p": None,
            "top_k": None,
            "pad_token_id": self._stop[0] if pad is None else pad,
        }

    def _until_stop(self, ids: list[int]) -> list[int]:
        """Without what stands behind the first closing token."""
        ends = [at + 1 for at, token in enumerate(ids) if token in self._stop]
        return ids[: ends[0]] if ends else ids
