"""Video-LLaVA: answers batched, cached, seeded, the same that transformers gives.

transformers' `generate` spends more time per token around a small model than in it, and runs the
clip through tower and language model for every row. Here a clip's part of the prompt, which is
nearly all of it, runs once for all its questions, and a question once for all its answers
(`decoding`). No torchvision is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from transformers import AutoConfig

from sharegptvideo.errors import UserError
from sharegptvideo.models.base import Answer, Request, SamplingParams
from sharegptvideo.models.checkpoints import check_tokens, load_tokenizer
from sharegptvideo.models.decoding import Prompt
from sharegptvideo.models.local import LocalModel
from sharegptvideo.models.pixels import VideoPixels
from sharegptvideo.models.prompts import (
    Kind,
    check_template,
    conversation,
    encode,
    expand_video,
    no_system_text,
    prompt_text,
    video_token_count,
)
from sharegptvideo.models.sampling import clip_key

__all__ = ["VideoLlavaModel"]

_PREPARING = 4  # threads


class VideoLlavaModel(LocalModel):
    """A Video-LLaVA with its tokenizer and pixel path.

    Attributes:
        pixels: frames to pixel values.
        most_frames: frames of a clip that the tower has embeddings of time for; None: it sees each
            frame by itself, and takes any number.
    """

    def __init__(self, path: str, **settings: Any) -> None:
        """Read configuration and tokenizer; for `settings` see `LocalModel`.

        Raises:
            UserError: no checkpoint there, or a part of it is missing.
        """
        super().__init__(path, **settings)
        folder = str(self._folder)
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        self.frames = config.video_seq_length // video_token_count(config, 1)
        self.most_frames: int | None = None
        if config.model_type == "llava_hound" and config.video_config.add_time_attn:
            self.most_frames = config.video_config.num_frames
        self.tokenizer = load_tokenizer(folder)
        check_tokens(path, self.tokenizer, config.get_text_config().vocab_size)
        check_template(path, self.tokenizer, config.video_token_id)
        system = self.settings.system
        if system is not None and self._ids("?") == encode(self.tokenizer, conversation("?"))[0]:
            raise no_system_text(path)
        self.pixels = VideoPixels.from_pretrained(folder)

    def _render(self, prompt: str) -> str:
        return str(self.tokenizer.decode(self._ids(prompt)))

    def _text(self, request: Request) -> str:
        about: Kind = "text" if request.frames is None else "video"
        messages = conversation(request.prompt, system=self.settings.system)
        return prompt_text(self.tokenizer, messages, about)

    def _ids(self, prompt: str, about: Kind = "video") -> list[int]:
        """Encode a prompt, with the system text where one was asked for."""
        messages = conversation(prompt, system=self.settings.system)
        return encode(self.tokenizer, messages, about)[0]

    def _answers(
        self, requests: Sequence[Request], params: SamplingParams
    ) -> Iterator[tuple[int, Answer]]:
        if params.repetition_penalty is not None:
            raise UserError(f"model {self.spec}: its decoding has no repetition_penalty")
        texts = {at: request for at, request in enumerate(requests) if request.frames is None}
        clips = {at: request for at, request in enumerate(requests) if at not in texts}
        yield from self._answers_to_texts(texts, params)
        if not self._by_slots:
            yield from self._answers_with(clips, params, _at_once)
            return
        # Beside the GPU's work: it reads the first clip while the next ones are prepared.
        with ThreadPoolExecutor(_PREPARING, thread_name_prefix="pixels") as pool:
            yield from self._answers_with(clips, params, pool.submit)

    def _answers_with(
        self, requests: Mapping[int, Request], params: SamplingParams, submit: Any
    ) -> Iterator[tuple[int, Answer]]:
        """Answer requests about clips; `submit` is called as that of a pool of threads."""
        prompts: list[Prompt] = []
        beginnings: dict[bytes, list[int]] = {}  # ids up to the clip's end
        keys: dict[int, bytes] = {}  # by object: requests about a clip share one array
        pixels: dict[bytes, Future[torch.Tensor]] = {}
        for position, request in requests.items():
            assert request.frames is not None
            key = keys.get(id(request.frames))
            if key is None:
                # What is drawn depends on the frames; nothing is in greedy decoding.
                place = id(request.frames).to_bytes(8, "little")
                key = place if params.greedy else clip_key(request.frames)
                keys[id(request.frames)] = key
            if key not in pixels:
                pixels[key] = submit(self.pixels.resize_and_crop, request.frames)
            try:
                beginning, prompt = self._prompt(position, request, key, params.max_new_tokens)
            except UserError as error:
                yield position, Answer(request, error=str(error))
                continue
            beginnings[key] = beginning
            prompts.append(prompt)

        def read(clips: Sequence[Prompt]) -> Any:
            ids = {prompt.clip: beginnings[prompt.clip] for prompt in clips}
            return self._read_clips(ids, {clip: pixels[clip].result() for clip in ids})

        yield from self._decoded(prompts, read, params, requests)

    def _answers_to_texts(
        self, requests: Mapping[int, Request], params: SamplingParams
    ) -> Iterator[tuple[int, Answer]]:
        """Answer requests without a clip: their first token takes its place."""
        prompts: list[Prompt] = []
        for position, request in requests.items():
            try:
                ids = self._ids(request.prompt, "text")
                room = self._room(ids, params.max_new_tokens)
            except UserError as error:
                yield position, Answer(request, error=str(error))
                continue
            places = torch.arange(1, len(ids))[None]
            seed_text = f"\n{request.prompt}"
            prompts.append(Prompt(position, ids[0], 1, ids[1:], places, seed_text, room))

        def read(firsts: Sequence[Prompt]) -> Any:
            ids = torch.tensor([[prompt.clip] for prompt in firsts], device=self.model.device)
            language = self.model.model.language_model
            return language(input_ids=ids, use_cache=True).past_key_values

        yield from self._decoded(prompts, read, params, requests)

    def _decoded(
        self,
        prompts: Sequence[Prompt],
        read: Callable[[Sequence[Prompt]], Any],
        params: SamplingParams,
        requests: Mapping[int, Request],
    ) -> Iterator[tuple[int, Answer]]:
        scored = [prompt for prompt in prompts if requests[prompt.number].options]
        yield from self._scored(scored, read, requests, self._text)
        prompts = [prompt for prompt in prompts if not requests[prompt.number].options]
        for prompt, answers in self.decoder.answers(prompts, read, params, self.limits()):
            texts = self.tokenizer.batch_decode(
                [ids[:-1] if ids[-1] in self._stop else ids for ids in answers],
                skip_special_tokens=True,
            )
            request = requests[prompt.number]
            yield prompt.number, Answer(request, tuple(text.strip() for text in texts))

    def _room(self, ids: Sequence[int], steps: int) -> int:
        """Return how many tokens an answer to a prompt may have, at most `steps`."""
        limit = self.model.config.text_config.max_position_embeddings
        room: int = min(steps, limit - len(ids))
        if room < 1:
            raise UserError(f"a prompt of {len(ids)} tokens leaves no room in {limit} positions")
        return room

    def _prompt(
        self, position: int, request: Request, key: bytes, steps: int
    ) -> tuple[list[int], Prompt]:
        """Return the ids up to the clip's end, and what comes after it."""
        assert request.frames is not None
        config = self.model.config
        video = config.video_token_id
        shown, most = len(request.frames), self.most_frames
        if most is not None and shown > most:
            raise UserError(f"{shown} frames, and the model looks at {most} of a clip at most")
        count = video_token_count(config, len(request.frames))
        ids = self._ids(request.prompt)
        ids, _ = expand_video(ids, [False] * len(ids), video, count)
        end = ids.index(video) + count
        room = self._room(ids, steps)
        seed_text = f"{key.hex()}\n{request.prompt}"
        places = torch.arange(end, len(ids))[None]
        prompt = Prompt(position, key, end, ids[end:], places, seed_text, room)
        return ids[:end], prompt

    def _read_clips(self, clips: dict[bytes, list[int]], pixels: dict[bytes, torch.Tensor]) -> Any:
        """Fill the cache of the prompts' beginnings up to the clips' ends, a row for each clip."""
        device = self.model.device
        values = torch.stack([pixels[clip] for clip in clips])
        values = self.pixels.normalise(values).to(device, self.model.dtype)
        seen = self.model.model.get_video_features(pixel_values_videos=values, return_dict=True)
        ids = torch.tensor(list(clips.values()), device=device)
        embeds = self.model.get_input_embeddings()(ids)
        where = (ids == self.model.config.video_token_id).unsqueeze(-1)
        embeds = embeds.masked_scatter(where, seen.pooler_output.to(embeds.dtype))
        language = self.model.model.language_model
        return language(inputs_embeds=embeds, use_cache=True).past_key_values

    def _logits(self, keep: int | None = None, **inputs: Any) -> torch.Tensor:
        output = self.model.model.language_model(use_cache=True, **inputs)
        last = -1 if keep is None else slice(-keep, None)
        logits: torch.Tensor = self.model.lm_head(output.last_hidden_state[:, last])
        return logits

    def _language(self) -> Any:
        return self.model.config.text_config


def _at_once(prepare: Callable[[Any], torch.Tensor], frames: Any) -> Future[torch.Tensor]:
    done: Future[torch.Tensor] = Future()
    done.set_result(prepare(frames))
    return done
