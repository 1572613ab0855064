"""The two things a family of models gives: a reader of clips and the model with its parts."""

from __future__ import annotations

import abc
import weakref
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import torch

from sharegptvideo.errors import UserError
from sharegptvideo.models import load_model
from sharegptvideo.training.mix import Visual

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sharegptvideo.models.prompts import Kind
    from sharegptvideo.training.recipes import Freeze, Recipe

__all__ = [
    "FEATURES",
    "IMAGES",
    "IMAGE_FEATURES",
    "PIXELS",
    "Clip",
    "ClipReader",
    "Family",
    "TowerFamily",
    "VisualKind",
    "a_sample",
    "ends_of",
    "filler_of",
]

Clip = dict[str, torch.Tensor]
"""A clip or image as it is kept between epochs: small, uint8 where the architecture allows it."""

VisualKind = Literal["video", "image"]

PIXELS = "pixel_values_videos"
"""What a batch's clips have for the tower."""

IMAGES = "pixel_values_images"
"""What its images have."""

FEATURES = "features"
"""What clips have in its place where a frozen tower's features are kept on disk."""

IMAGE_FEATURES = "image_features"
"""What images have then."""


def filler_of(tokenizer: Any, rows: int) -> int:
    """Return the token id that fills rows up: the pad token's, or without one the end token's.

    What it fills is masked, as attention and as labels, so which token it is changes nothing. A
    pad token without an embedding, added to the tokenizer alone, is none.

    Args:
        tokenizer: of transformers.
        rows: of the model's embeddings.

    Raises:
        UserError: the tokenizer has neither.
    """
    for number in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if number is not None and number < rows:
            return int(number)
    raise UserError(
        "the model's tokenizer has neither a pad token nor an end token; name one in its "
        "tokenizer_config.json"
    )


def ends_of(generation: Any, tokenizer: Any) -> set[int]:
    """Return the ids that end an answer, by a model's generation config and its tokenizer."""
    ends = getattr(generation, "eos_token_id", None)
    ends = [ends] if isinstance(ends, int) else list(ends or ())
    return {*ends, tokenizer.eos_token_id} - {None}


def a_sample(visuals: Sequence[Visual], most: int = 200) -> list[Visual]:
    """Return up to `most` of them, evenly."""
    return list(visuals[:: -(-len(visuals) // most) or 1])


# Rows about images are refused before where a reader has no `image_tokens`.
_CLIPS_ONLY = "this architecture is trained on clips only"
# `data.keep_clips` is refused before beside kept features.
_KEPT_ALREADY = "what this reader gives is kept already"


class ClipReader(abc.ABC):
    """Clips and token ids for a collator; without weights, so that loader workers can have it.

    Attributes:
        pad_id: token id that fills a row up.
        video_tokens: how many positions a clip takes, where all take as many.
        image_tokens: how many an image takes; 0 where only clips are trained on.
    """

    pad_id: int
    video_tokens: int = 0
    image_tokens: int = 0

    @abc.abstractmethod
    def read(self, path: str) -> Clip:
        """Decode a clip.

        Raises:
            MediaError: the file cannot be read.
        """

    def count(self, path: str) -> int:  # noqa: ARG002 - for readers whose clips differ
        """How many positions the clip at `path` takes, known before it is decoded."""
        return self.video_tokens

    def read_visual(self, visual: Visual) -> Clip:
        """Decode a clip or image.

        Raises:
            MediaError: the file cannot be read.
        """
        return self.read(visual.path) if visual.kind == "video" else self.read_image(visual.path)

    def decode(self, visual: Visual) -> Clip:
        """Decode to the smallest form from which `finish` makes what `read_visual` gives.

        Raises:
            MediaError: the file cannot be read.
        """
        return self.read_visual(visual)

    def finish(self, kind: VisualKind, decoded: Clip) -> Clip:  # noqa: ARG002 - for those that do
        """Return what `read_visual` gives of a clip or image, to the bit."""
        return decoded

    def kept_bytes(self, visual: Visual) -> int:
        """Return the bytes of what `decode` gives, known before it is decoded."""
        raise NotImplementedError(_KEPT_ALREADY)

    def mean_kept(self, visuals: Sequence[Visual]) -> float:
        """Return mean `kept_bytes` of some clips or images, from a sample of them; 0 of none."""
        sizes = [self.kept_bytes(one) for one in a_sample(visuals)]
        return sum(sizes) / max(len(sizes), 1)

    def decoding(self) -> str:
        """Return a key of all that decides what `decode` makes of a file."""
        raise NotImplementedError(_KEPT_ALREADY)

    def read_image(self, path: str) -> Clip:
        """Decode an image.

        Raises:
            MediaError: the file cannot be read.
        """
        raise NotImplementedError(_CLIPS_ONLY)

    def positions(self, visual: Visual | None) -> int:
        """How many positions replace the token of a clip or image; 1 where there is none."""
        if visual is None:
            return 1
        return self.count(visual.path) if visual.kind == "video" else self.image_tokens

    @abc.abstractmethod
    def expand(
        self, ids: list[int], assistant_mask: list[bool], clip: Clip
    ) -> tuple[list[int], list[bool]]:
        """Give the clip or image its positions in place of the one token that stands for it."""

    @abc.abstractmethod
    def batch(self, clips: Sequence[Clip]) -> dict[str, torch.Tensor]:
        """Clips, each once, as the vision part of the model takes them."""

    def batch_images(self, images: Sequence[Clip]) -> dict[str, torch.Tensor]:
        """Images, each once, as the vision part of the model takes them."""
        raise NotImplementedError(_CLIPS_ONLY)

    def blank(self, kind: VisualKind) -> Clip:
        """Return a clip or image of nothing, of the same shape as others."""
        raise NotImplementedError(_CLIPS_ONLY)


class Family(abc.ABC):
    """A model in training with its tokenizer and its reader of clips.

    The other half of a class of `sharegptvideo.models`, which answers with the same architecture:
    tokenizer, processor and pixels come from it.

    Attributes:
        model: of transformers.
    """

    tokenizer: Any
    reader: ClipReader
    _encoded: tuple[weakref.ref[torch.Tensor], Any] | None = None  # the last pixels, and outputs

    def __init__(self, model: Any) -> None:
        """Take a model alone; `open` adds tokenizer and reader, which may not be there."""
        self.model = model

    @classmethod
    @abc.abstractmethod
    def open(cls, recipe: Recipe, *, weights: bool = True) -> Self:
        """Load the recipe's model with its tokenizer and reader; see `open_family`."""

    @staticmethod
    def weights_dtype(recipe: Recipe) -> torch.dtype:
        """Return float32 where weights learn; adapters only read them, and bf16 is enough."""
        return torch.bfloat16 if recipe.lora and recipe.optimisation.bf16 else torch.float32

    @abc.abstractmethod
    def encode(
        self, messages: Sequence[Mapping[str, Any]], about: Kind = "video"
    ) -> tuple[list[int], list[bool]]:
        """Return token ids of a conversation and the assistant mask; a clip or image is one token.

        `about` is `video` for families whose reader has no `image_tokens`.
        """

    @abc.abstractmethod
    def freeze(self, parts: Freeze) -> None:
        """Fix the weights of `parts`."""

    def encode_clips(self, model: Any, clips: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Compute the vision outputs of clips and images, as `mm_encoder_outputs` takes them.

        `model` is the policy or the reference; where the vision part is frozen, the two see the
        same, and it is computed once.
        """
        # What learns is the policy's to say: a reference only ever runs without gradients.
        if any(weight.requires_grad for weight in self._vision_weights()):
            return self._encode(model, clips)
        given = next(iter(clips.values()))
        if self._encoded is None or self._encoded[0]() is not given:
            with torch.no_grad():
                self._encoded = (weakref.ref(given), self._encode(model, clips))
        return self._encoded[1]

    @abc.abstractmethod
    def _vision_weights(self) -> Iterable[torch.nn.Parameter]:
        """Return the weights of tower and projector."""

    @abc.abstractmethod
    def _encode(self, model: Any, clips: dict[str, torch.Tensor]) -> dict[str, Any]:
        """Compute the outputs of the projector, by what they are of: `video`, `image`."""

    def positions(
        self,
        model: Any,  # noqa: ARG002 - for families that have several axes of positions
        ids: torch.Tensor,  # noqa: ARG002
        mask: torch.Tensor,  # noqa: ARG002
        clips: dict[str, torch.Tensor],  # noqa: ARG002
        clip_of_row: torch.Tensor,  # noqa: ARG002
    ) -> torch.Tensor | None:
        """Positions of a padded batch, axes×rows×length; None where a token's is its place."""
        return None

    def load_weights(self, folder: str, model: Any) -> None:
        """Put a checkpoint's weights into `model`, by their names in the model.

        transformers 5.23 saves Video-LLaVA under the Hub's names, reads a checkpoint back under
        the modules' names, and takes what is missing for granted: a resumed training would go on
        from the starting weights without a word.
        """
        model.load_state_dict(load_model(folder, dtype=model.dtype).state_dict())


class TowerFamily(Family):
    """A family whose tower runs apart from its projector, so that its features can be kept.

    `encode_clips` takes what `tower_features` gives in place of pixels: `FEATURES` of clips,
    `IMAGE_FEATURES` of images.
    """

    @abc.abstractmethod
    def tower_features(self, clips: dict[str, torch.Tensor]) -> torch.Tensor:
        """Compute what a tower alone gives, before the projector: clips or images first."""

    @abc.abstractmethod
    def feature_key(self, kind: VisualKind) -> str:
        """Return a key of a tower's features: its weights and how clips or images are prepared."""
