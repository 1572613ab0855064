"""Any video model of transformers that comes with a processor.

A clip's part of the prompt is the same for all questions about it: the vision tower and the
language model run over it once, and the questions are then decoded together after that cache
(`decoding`; where the checkpoint has rules of its own for choosing tokens, such as a repetition
penalty, by transformers' `generate` on the same cache). Where an architecture is not known to allow
this (`shares_prefix`), every answer is a plain `generate`.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, GenerationConfig, LogitsProcessor

from sharegptvideo._io import sha256_file
from sharegptvideo.errors import UserError
from sharegptvideo.media.facts import read_facts
from sharegptvideo.media.folder import FOLDER_FPS
from sharegptvideo.models.base import Answer, Request, SamplingParams
from sharegptvideo.models.checkpoints import (
    add_no_end,
    check_tokens,
    checkpoint_folder,
    loading_cause,
    model_type,
    quiet_transformers,
)
from sharegptvideo.models.decoding import Prompt, ReadClips
from sharegptvideo.models.local import LocalModel
from sharegptvideo.models.memory import cache_bytes, fitting_rows, free_bytes, in_parts
from sharegptvideo.models.prompts import begin_once, no_system_text, template_errors
from sharegptvideo.models.sampling import choose, clip_key, uniforms
from sharegptvideo.models.shared_prefix import SharedPrefixCache, attending_to_prefixes

__all__ = [
    "SHARING",
    "ProcessorModel",
    "clip_metadata",
    "generation_rules",
    "load_processor",
    "render_question",
    "reserved_marks",
    "settings_hash",
    "shares_prefix",
]

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

# Model types whose processors resize frames to a number of pixels, with whether that is of all
# frames of a clip together. The others have one size for every frame.
_PIXELS = {"qwen2_5_vl": False, "qwen2_vl": False, "qwen3_vl": True, "video_llama_3": True}
_PER_TOKEN = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids")
# Of a generation config: tokens, lengths and sampling, which requests decide, and what it says of
# itself. Anything else may change which token is chosen.
_NO_RULES = frozenset(
    {
        "_from_model_config",
        "bos_token_id",
        "cache_implementation",
        "do_sample",
        "eos_token_id",
        "epsilon_cutoff",
        "eta_cutoff",
        "max_length",
        "max_new_tokens",
        "min_p",
        "num_return_sequences",
        "output_attentions",
        "output_hidden_states",
        "output_logits",
        "output_scores",
        "pad_token_id",
        "return_dict_in_generate",
        "temperature",
        "top_k",
        "top_p",
        "transformers_version",
        "typical_p",
        "use_cache",
    }
)
_NEUTRAL = {"num_beams": 1, "repetition_penalty": 1.0}  # rules that change nothing
_SETTINGS = {".json", ".jinja", ".model", ".txt"}


def load_processor(path: str) -> Any:
    """Load the processor of a video model, which turns messages and frames into its inputs.

    Raises:
        UserError: no checkpoint there, torchvision is missing, the architecture answers no
            questions about videos, or the checkpoint lacks a part.
    """
    from transformers import AutoProcessor
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    from transformers.utils.import_utils import is_torchvision_available

    kind = model_type(path)
    if kind not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        raise UserError(
            f"model {path}: architecture {kind!r} gives no answers about videos; "
            "take a video language model of transformers, or python: for code of your own"
        )
    if not is_torchvision_available():
        raise UserError(
            f"model {path}: the processors of {kind!r} need torchvision: "
            "pip install torchvision, in the version that goes with this torch "
            f"({torch.__version__})"
        )
    try:
        with quiet_transformers():
            processor = AutoProcessor.from_pretrained(
                checkpoint_folder(path), trust_remote_code=False
            )  # type: ignore[no-untyped-call]  # untyped in transformers
    except (ImportError, OSError, ValueError) as error:
        raise UserError(
            f"model {path}: its processor cannot be loaded ({loading_cause(error)})"
        ) from error
    if getattr(processor, "video_processor", None) is None:
        raise UserError(f"model {path}: its processor takes no videos")
    add_no_end(processor.tokenizer)
    template = processor.chat_template or getattr(processor.tokenizer, "chat_template", None)
    if not template and kind != "smolvlm":  # whose processor has one for videos
        raise UserError(f"model {path}: no chat template in it; it cannot be asked questions")
    return processor


def render_question(processor: Any, question: str, system: str | None = None) -> str:
    """Put a question on one clip into the model's chat template, the clip as its placeholder.

    Args:
        processor: of transformers.
        question: the text after the clip.
        system: the text before the conversation; None: the template's own, if it has one.

    Raises:
        UserError: a text holds a token that stands for a picture, a video or a turn, or the
            template has no place for a system text.
    """
    for text in (question, system or ""):
        marks = sorted(token for token in reserved_marks(processor) if token in text)
        if marks:
            raise UserError(f"a question may not hold the model's own mark {marks[0]!r}: {text!r}")
    turn = {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": question}]}
    # Templates take the text of a turn as it is, or as a part, and drop it in the other form.
    forms: list[Any] = [None] if system is None else [system, [{"type": "text", "text": system}]]
    for content in forms:
        turns = [turn] if content is None else [{"role": "system", "content": content}, turn]
        with template_errors():
            rendered = str(
                processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            )
        if system is None or system.strip() in rendered:
            return rendered
    raise no_system_text(str(getattr(processor.tokenizer, "name_or_path", "")))


def reserved_marks(processor: Any) -> set[str]:
    """Return the tokens that stand for pictures, videos and turns, which no text may hold."""
    tokenizer = processor.tokenizer
    marks = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}
    marks |= {str(getattr(processor, f"{kind}_token", "") or "") for kind in ("image", "video")}
    return {mark for mark in marks if mark.strip()}


def clip_metadata(indices: Sequence[int], fps: float | None) -> Any:
    """Describe where the frames of a clip stand in it, as processors of transformers take it.

    Args:
        indices: number of each frame, from 0.
        fps: frames a second; None: not known, and taken for 2, the rate of the release's folders.
    """
    from transformers.video_utils import VideoMetadata

    fps = fps or float(FOLDER_FPS)
    total = indices[-1] + 1
    return VideoMetadata(
        total_num_frames=total, fps=fps, duration=total / fps, frames_indices=list(indices)
    )


def settings_hash(path: str) -> str:
    """Hash what beside the weights decides on answers: configs, tokenizer, templates."""
    digest = hashlib.sha256()
    for file in sorted(checkpoint_folder(path).iterdir()):
        if file.suffix in _SETTINGS and not file.name.endswith(".index.json"):
            digest.update(f"{file.name}\0{sha256_file(file)}\n".encode())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class _Prompt:
    """A question as the model gets it.

    The request's place; what, with the seed, determines its answers; all inputs of it alone; its
    ids as a list; the position of each (the last two dimensions are 1×tokens; models with
    positions in time and space have one before them); and where the clip's part ends (0: nowhere
    before the prompt's end).
    """

    number: int
    seed_text: str
    inputs: dict[str, Any]
    ids: list[int]
    positions: torch.Tensor
    clip_end: int


def shares_prefix(config: Any, generation: Any = None) -> bool:
    """Whether questions about a clip may share its cache, by config and generation config.

    A type in `SHARING`, attention over everything before in every layer (a sliding window would
    count padding), and no rule of generation that depends on the order of the prompt's tokens.
    """
    text = config.get_text_config()
    layers = set(getattr(text, "layer_types", None) or ()) - {"full_attention"}
    sliding = bool(getattr(text, "use_sliding_window", False))
    ordered = getattr(generation, "no_repeat_ngram_size", None)
    return config.model_type in SHARING and not layers and not sliding and not ordered


class ProcessorModel(LocalModel):
    """A video model with its processor.

    Attributes:
        processor: of transformers.
        shares: whether the requests about a clip share its cache.
    """

    answers_texts = False

    def __init__(self, path: str, **options: Any) -> None:
        """Read configuration and processor; for `options` see `LocalModel`.

        Raises:
            UserError: no checkpoint there, an architecture that answers no questions about
                videos, a part of it or torchvision missing, or a setting that it cannot obey.
        """
        super().__init__(path, **options)
        folder = str(self._folder)
        self.processor = load_processor(folder)
        self.tokenizer = self.processor.tokenizer
        self._config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        check_tokens(path, self.tokenizer, self._config.get_text_config().vocab_size)
        rules = None
        if (self._folder / "generation_config.json").is_file():
            rules = GenerationConfig.from_pretrained(folder)
        self.shares = shares_prefix(self._config, rules)
        self.scores_options = self.shares
        marks = {
            getattr(source, f"{kind}_token_id", None)
            for source in (self.processor, self._config)
            for kind in ("image", "video")
        }
        self._clip_ids = marks - {None}
        self.obeys = LocalModel.obeys | {"repetition_penalty"}
        if self._config.model_type in _PIXELS:
            self.obeys |= {"max_pixels"}
        if self.settings.system is not None:
            self._render("?")  # raises where the template has no place for it

    def describe(self) -> dict[str, Any]:
        """Add the architecture and a hash of the settings to what every local model says."""
        described = super().describe() | {"architecture": str(self._config.model_type)}
        if not self._in_memory:
            described["settings_hash"] = settings_hash(str(self._folder))
        if self.settings.max_pixels is not None:
            described["max_pixels"] = self.settings.max_pixels
        clip = "read once for its questions" if self.shares else "read for each question"
        return described | {"clip": clip}

    def _render(self, prompt: str) -> str:
        return render_question(self.processor, prompt, self.settings.system)

    def _answers(
        self, requests: Sequence[Request], params: SamplingParams
    ) -> Iterator[tuple[int, Answer]]:
        clips: dict[int, dict[int, Request]] = {}
        for position, request in enumerate(requests):
            clips.setdefault(id(request.frames), {})[position] = request
        # Slots take many clips; batches hold one, so no other's pixels wait in memory.
        together = [[*clips.values()]] if self._by_slots else [[clip] for clip in clips.values()]
        for part in together:
            prompts: list[_Prompt] = []
            for clip in part:
                for position, prompt in self._prompts(clip):
                    if isinstance(prompt, _Prompt):
                        prompts.append(prompt)
                    else:
                        yield position, Answer(requests[position], error=prompt)
            scored = [prompt for prompt in prompts if requests[prompt.number].options]
            yield from self._likeliest(scored, requests)
            prompts = [prompt for prompt in prompts if not requests[prompt.number].options]
            for prompt, ids in self._token_ids(prompts, params):
                texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
                answer = Answer(requests[prompt.number], tuple(str(text).strip() for text in texts))
                yield prompt.number, answer

    def _token_ids(
        self, prompts: Iterable[_Prompt], params: SamplingParams
    ) -> Iterator[tuple[_Prompt, list[list[int]]]]:
        """Answer prompts; the closing token, where it came, is an answer's last.

        The model's generation config holds, a repetition penalty in it included, but for what
        `params` says: where it has a rule beyond sampling, `generate` of transformers decodes.
        """
        groups = self._groups(prompts)
        if self.shares and not self._rules(params):
            sharing = [group for group in groups if group[0].clip_end]
            groups = [group for group in groups if not group[0].clip_end]
            yield from self._decoded(sharing, params)
        for group in groups:
            with quiet_transformers():
                if self.shares and group[0].clip_end:
                    answers = self._on_one_cache(group, params)
                else:
                    answers = [self._plain(prompt, params) for prompt in group]
            yield from zip(group, answers, strict=True)

    def _rules(self, params: SamplingParams) -> dict[str, Any]:
        """Return the rules for choosing tokens that hold for answers generated so."""
        rules = generation_rules(self.model.generation_config)
        penalty = params.repetition_penalty
        if penalty is not None:
            rules["repetition_penalty"] = penalty
            if penalty == _NEUTRAL["repetition_penalty"]:
                del rules["repetition_penalty"]
        return rules

    def _likeliest(
        self, prompts: Sequence[_Prompt], requests: Sequence[Request]
    ) -> Iterator[tuple[int, Answer]]:
        """Answer by the likeliest of the options, clip by clip."""
        for group in self._groups(prompts):
            shared, read, back = self._after_clips([group], 1)
            if not group[0].clip_end:
                error = "its options cannot be scored: nothing comes after its clip"
                yield from (
                    (each.number, Answer(requests[each.number], error=error)) for each in group
                )
                continue
            asked = {at: requests[prompt.number] for at, prompt in enumerate(back)}
            for at, answer in self._scored(shared, read, asked, self._text):
                yield back[at].number, answer

    def _text(self, request: Request) -> str:
        return self._render(request.prompt)

    def _decoded(
        self, groups: Sequence[Sequence[_Prompt]], params: SamplingParams
    ) -> Iterator[tuple[_Prompt, list[list[int]]]]:
        """Answer groups of prompts that share what comes up to their clip's end."""
        prompts, read, back = self._after_clips(groups, params.max_new_tokens)
        for answered, answers in self.decoder.answers(prompts, read, params, self.limits()):
            yield back[answered.number], answers

    def _after_clips(
        self, groups: Sequence[Sequence[_Prompt]], room: int
    ) -> tuple[list[Prompt], ReadClips, list[_Prompt]]:
        """Return prompts for the decoder, what reads their clips, and what each is of."""
        back: list[_Prompt] = []
        prompts: list[Prompt] = []
        for number, group in enumerate(groups):
            end = group[0].clip_end
            for prompt in group:
                ids, positions = prompt.ids[end:], prompt.positions[..., end:]
                prompts.append(
                    Prompt(len(back), number, end, ids, positions, prompt.seed_text, room)
                )
                back.append(prompt)

        def read(clips: Sequence[Prompt]) -> Any:
            caches = [self._read_clip(groups[prompt.clip][0]) for prompt in clips]
            (cache,) = caches  # batches hold one clip, and slots read one after the other
            return cache

        return prompts, read, back

    def _logits(self, keep: int | None = None, **inputs: Any) -> torch.Tensor:
        output = self.model(use_cache=True, logits_to_keep=keep or 1, **inputs)
        logits: torch.Tensor = output.logits
        return logits[:, -1] if keep is None else logits

    def _language(self) -> Any:
        return self.model.config.get_text_config()

    def _prompts(self, requests: Mapping[int, Request]) -> Iterator[tuple[int, _Prompt | str]]:
        """Prepare requests about one clip; yields what is wrong with one that cannot be put."""
        # A processor for itself: what it prepares of the clip is dropped with this call.
        processor = copy.copy(self.processor)
        processor.video_processor = _OneClip(self.processor.video_processor)
        first = next(iter(requests.values()))
        assert first.frames is not None, "the caller gives frames to models that need them"
        key, metadata = clip_key(first.frames).hex(), _metadata(first)
        video = torch.from_numpy(first.frames).permute(0, 3, 1, 2)
        for number, request in requests.items():
            try:
                inputs = self._inputs(processor, request.prompt, video, metadata)
            except UserError as error:
                yield number, str(error)
                continue
            ids: list[int] = inputs["input_ids"][0].tolist()
            ends = [at + 1 for at, token in enumerate(ids) if token in self._clip_ids]
            clip_end = ends[-1] if ends and ends[-1] < len(ids) else 0
            yield (
                number,
                _Prompt(
                    number,
                    f"{key}\n{request.prompt}",
                    inputs,
                    ids,
                    self._positions(inputs),
                    clip_end,
                ),
            )

    def _inputs(
        self, processor: Any, question: str, video: torch.Tensor, metadata: Any
    ) -> dict[str, Any]:
        text = self._render(question)
        try:
            inputs = processor(
                text=[text],
                videos=[video],
                video_metadata=[metadata],
                do_sample_frames=False,
                return_tensors="pt",
                **self._pixels(len(video)),
                **begin_once(self.tokenizer, text),
            )
        except ValueError as error:
            cause = " ".join(str(error).split())
            raise UserError(f"the model's processor refuses the clip ({cause})") from error
        limit = getattr(self._config.get_text_config(), "max_position_embeddings", None)
        length = inputs["input_ids"].shape[1]
        if limit is not None and length >= limit:
            raise UserError(f"a prompt of {length} tokens leaves no room in {limit} positions")
        return dict(inputs.items())

    def _pixels(self, frames: int) -> dict[str, Any]:
        """Return the argument of the processor that limits the pixels of each of `frames`."""
        most = self.settings.max_pixels
        if most is None:
            return {}
        own = self.processor.video_processor.size
        # Their own minimum would win over a smaller maximum; they never go under 1.05 of it.
        least = max(1, min(own["shortest_edge"], most * 20 // 21))
        whole = most * (frames if _PIXELS[self._config.model_type] else 1)
        return {"size": {"shortest_edge": least, "longest_edge": min(own["longest_edge"], whole)}}

    def _positions(self, inputs: dict[str, Any]) -> torch.Tensor:
        """Compute the positions that `generate` gives a prompt of its own, by the same method."""
        others = {name: value for name, value in inputs.items() if name != "input_ids"}
        positions: torch.Tensor = self.model._prepare_position_ids_for_generation(
            inputs["input_ids"], others
        )
        return positions

    def _placed(self, name: str, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        if name.startswith("pixel_values"):
            return value.to(self.model.device, self.model.dtype)
        return value.to(self.model.device)

    def _groups(self, prompts: Iterable[_Prompt]) -> list[list[_Prompt]]:
        """Group prompts that are equal up to the clip's end, which mostly are all of them."""
        groups: dict[tuple[str, tuple[int, ...]], list[_Prompt]] = {}
        for prompt in prompts:
            clip = prompt.seed_text.partition("\n")[0]
            group = groups.setdefault((clip, tuple(prompt.ids[: prompt.clip_end])), [])
            if group and self.shares and prompt.clip_end:
                prompt.inputs.clear()  # the first one's pixels are enough
            group.append(prompt)
        return list(groups.values())

    def _plain(self, prompt: _Prompt, params: SamplingParams) -> list[list[int]]:
        inputs = {name: self._placed(name, value) for name, value in prompt.inputs.items()}
        drawn = uniforms([prompt.seed_text], params)
        answers = []
        for number in range(1 if drawn is None else params.n):
            numbers = None if drawn is None else drawn[:, number : number + 1]
            settings = self._settings(params, numbers, len(prompt.ids))
            output = self.model.generate(**inputs, **settings)
            answers.append(self._until_stop(output[0, len(prompt.ids) :].tolist()))
        return answers if drawn is not None else answers * params.n

    def _read_clip(self, prompt: _Prompt) -> Any:
        """Fill a cache with what comes up to the clip's end."""
        end = prompt.clip_end
        first = {
            name: self._placed(name, value[:, :end] if name in _PER_TOKEN else value)
            for name, value in prompt.inputs.items()
        }
        first["position_ids"] = prompt.positions[..., :end].to(self.model.device)
        return self.model(**first, use_cache=True, logits_to_keep=1).past_key_values

    def _on_one_cache(
        self, group: Sequence[_Prompt], params: SamplingParams
    ) -> list[list[list[int]]]:
        end, cache = group[0].clip_end, self._read_clip(group[0])
        # By length, so that little is padded; a row's answer does not depend on its company.
        order = sorted(range(len(group)), key=lambda at: len(group[at].ids))
        longest = len(group[order[-1]].ids) - end + params.max_new_tokens
        free = self.memory_limit or free_bytes(self.model.device)
        fitting = fitting_rows(cache_bytes(cache, longest) * params.n, free)
        most = max(1, self.limits().rows // params.n)
        answers = in_parts(
            [group[at] for at in order],
            lambda part: self._decode(part, cache, end, params),
            most=min(most, fitting or most),
        )
        back = dict(zip(order, answers, strict=True))
        return [back[at] for at in range(len(group))]

    def _decode(
        self, part: Sequence[_Prompt], cache: Any, end: int, params: SamplingParams
    ) -> list[list[list[int]]]:
        """Decode questions after one clip, padded between it and them, a row for each answer."""
        n = 1 if params.greedy else params.n
        longest = max(len(prompt.ids) for prompt in part)
        rows, mask, positions = [], [], []
        for prompt in part:
            gap, at = longest - len(prompt.ids), prompt.positions
            # Padding repeats a token of the row itself: a repetition penalty then changes nothing.
            padded = [*prompt.ids[:end], *[prompt.ids[-1]] * gap, *prompt.ids[end:]]
            seen = [1] * end + [0] * gap + [1] * (longest - end - gap)
            before = at[..., end - 1 : end].repeat_interleave(gap, -1)
            rows += [padded] * n
            mask += [seen] * n
            positions += [torch.cat([at[..., :end], before, at[..., end:]], -1)] * n
        drawn = uniforms([prompt.seed_text for prompt in part], params)
        with attending_to_prefixes(self.model.config.get_text_config()):
            output = self.model.generate(
                input_ids=torch.tensor(rows, device=self.model.device),
                attention_mask=torch.tensor(mask, device=self.model.device),
                position_ids=torch.cat(positions, dim=-2).to(self.model.device),
                past_key_values=SharedPrefixCache(
                    cache, [0] * len(rows), ahead=params.max_new_tokens
                ),
                **self._settings(params, drawn, longest),
            )
        answers = [self._until_stop(row[longest:].tolist()) for row in output]
        copies = params.n // n  # of the only answer that greedy decoding has
        return [answers[at : at + n] * copies for at in range(0, len(answers), n)]

    def _settings(
        self, params: SamplingParams, drawn: torch.Tensor | None, prompt_length: int
    ) -> dict[str, Any]:
        """Return the arguments of `generate`: greedy, over logits that `_Draw` has decided."""
        pad, penalty = self.tokenizer.pad_token_id, params.repetition_penalty
        return {
            "max_new_tokens": params.max_new_tokens,
            "do_sample": False,
            "num_beams": 1,
            "temperature": None,
            "top_p": None,
            "top_k": None,
            "pad_token_id": self._stop[0] if pad is None else pad,
            "logits_processor": [] if drawn is None else [_Draw(params, drawn, prompt_length)],
            **({} if penalty is None else {"repetition_penalty": penalty}),
        }

    def _until_stop(self, ids: list[int]) -> list[int]:
        """Drop what comes after the first closing token."""
        ends = [at + 1 for at, token in enumerate(ids) if token in self._stop]
        return ids[: ends[0]] if ends else ids


class _Draw(LogitsProcessor):
    """Leaves of each row's logits the token that `choose` draws with the row's own numbers.

    So an answer depends on no generator that all rows share, and `generate` can stay greedy.
    """

    def __init__(self, params: SamplingParams, drawn: torch.Tensor, prompt_length: int) -> None:
        self._params, self._drawn, self._start = params, drawn, prompt_length

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        numbers = self._drawn[input_ids.shape[1] - self._start]
        chosen = choose(scores, self._params, numbers)
        return torch.full_like(scores, -torch.inf).scatter_(1, chosen.unsqueeze(-1), 0.0)


def generation_rules(generation: Any) -> dict[str, Any]:
    """Return the rules of a generation config for choosing tokens, by name, beside sampling."""
    said = generation.to_diff_dict()
    names = sorted(set(said) - _NO_RULES)
    return {name: said[name] for name in names if _NEUTRAL.get(name) != said[name]}


def _metadata(request: Request) -> Any:
    """Describe where the frames stand in the clip: some models write times into the prompt."""
    assert request.frames is not None
    fps = request.fps
    if request.indices is None:
        return clip_metadata(range(len(request.frames)), fps)
    if fps is None and request.question and request.question.video_path:
        fps = read_facts(Path(request.question.video_path)).fps
    return clip_metadata(request.indices, fps)


class _OneClip:
    """Stands in for a processor's video processor: the same clip is prepared once."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._prepared: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._prepared is None:
            self._prepared = self._inner(*args, **kwargs)
        return copy.copy(self._prepared)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
