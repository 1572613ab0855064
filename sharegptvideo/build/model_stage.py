"""Stages that ask one model: how it is chosen, and what of it identifies the results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from sharegptvideo.build.stage import Context, OpenStage, OwnServer, Row, Stage, provenance
from sharegptvideo.endpoint import EndpointOptions
from sharegptvideo.errors import UserError, unknown_name
from sharegptvideo.models import Answer, Model, SamplingParams, open_model
from sharegptvideo.models.asking import Turn, open_asker
from sharegptvideo.models.registry import KINDS
from sharegptvideo.models.served import Send, ServedModel

__all__ = ["ModelChoice", "OpenModelStage", "beside", "frames_for", "model_settings"]

# What `describe` says that is no part of the results' identity, or has another name there.
_NOT_IDENTITY = frozenset(
    ("kind", "name", "decoding", "temperature", "weights_hash", "clip", "answered_by")
)


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A model that a stage asks.

    Attributes:
        spec: what `open_model` takes; a folder or Hub id may stand without `hf:`.
        params: how it answers.
        base_url: where an openai: model is served; default: OPENAI_BASE_URL.
        send: how it is sent frames, see `open_model`.
        batch_size: answers that an hf: model decodes at once.
    """

    spec: str
    params: SamplingParams = field(default_factory=SamplingParams)
    base_url: str | None = None
    send: Send = "auto"
    batch_size: int | None = None

    def open(
        self,
        endpoint: EndpointOptions,
        *,
        sees: bool = True,
        takes_files: bool = False,
        server: OwnServer | None = None,
    ) -> Model:
        """Open the model; see `open_model`.

        Args:
            endpoint: speed, money and cache of its calls.
            sees: it will be asked about clips.
            takes_files: it may be a file of answers.
            server: what answers where it is an hf: model.

        Raises:
            UserError: there is no such model, or it cannot be asked what was never asked before.
        """
        kind, spec = self.spec.partition(":")[0], self.spec
        if kind not in KINDS:
            if ":" in spec and not Path(spec).exists():
                raise unknown_name("kind of model", kind, KINDS)
            kind, spec = "hf", f"hf:{spec}"
        if kind == "predictions" and not takes_files:
            raise UserError(
                f"model {spec}: a file of answers answers nothing new; take openai:, hf: or python:"
            )
        if kind != "openai" and self.base_url is not None:
            raise UserError(f"model {spec}: a base URL is for served models (openai:NAME)")
        if kind == "openai" and endpoint.batch_api:
            raise UserError("--batch-api is for verdicts; here each call is made by itself")
        if kind == "hf" and server is not None:
            # A checkpoint of videos; see `vllm_checkpoint`.
            served = ServedModel(
                server.model, base_url=server.base_url, options=endpoint, send="video"
            )
            served.spec = spec
            return served
        model = open_model(
            spec,
            base_url=self.base_url,
            options=endpoint,
            batch_size=self.batch_size,
            # Else a server that is asked about texts alone is tried out with videos.
            send=self.send if sees or kind != "openai" else "pictures",
        )
        if not (sees or model.answers_texts):
            raise UserError(
                f"model {spec}: is asked about clips alone, and here about texts; take openai:NAME,"
                " python:module:function, or a Video-LLaVA"
            )
        return model


def frames_for(model: Model, asked: int | None, usual: int) -> int:
    """Return how many frames of a clip a model is given: its own number, else `asked` or `usual`.

    Raises:
        UserError: a number below 1, or one is asked for and the model has its own.
    """
    if asked is not None and asked < 1:
        raise UserError(f"frames must be at least 1, got {asked}")
    if asked is not None and model.frames is not None:
        raise UserError(
            f"model {model.spec}: was made for {model.frames} frames of a clip; leave frames out"
        )
    return model.frames or asked or usual


def model_settings(model: Model) -> Row:
    """Return what identifies a model in the settings of a stage.

    Weights by their hash alone, so that a checkpoint may be moved. May take long.
    """
    described = model.describe()
    settings: Row = {} if described["kind"] == "hf" else {"model": model.spec}
    if described["kind"] in {"hf", "python"}:
        settings["weights_sha256"] = described["weights_hash"]
    return settings | {key: each for key, each in described.items() if key not in _NOT_IDENTITY}


def beside(answers: Sequence[Answer]) -> dict[str, str]:
    """Return what answers hold beside their texts: `reasoning`, and `partial` of failed ones."""
    held = {}
    for name in ("reasoning", "partial"):
        texts = [text for answer in answers for text in getattr(answer, name) if text]
        if texts:
            held[name] = "\n---\n".join(texts)
    return held


class OpenModelStage(OpenStage):
    """A stage at work that asks one model.

    Attributes:
        model: that is asked.
        params: how it answers.
        prompt: version and hash of what it is asked; None: the rows' own questions.
        takes_files: whether the model may be a file of answers.
    """

    model: Model
    takes_files: ClassVar[bool] = False

    def __init__(
        self,
        settings: Stage,
        choice: ModelChoice,
        context: Context,
        *,
        prompt: tuple[int, str] | None,
        step: int = 32,
        sees: bool = True,
    ) -> None:
        """Open the model; `step` units together are a batch of one on this machine."""
        self.settings, self.params, self.prompt = settings, choice.params, prompt
        self.model = choice.open(
            context.endpoint, sees=sees, takes_files=self.takes_files, server=context.server
        )
        self._context = context
        self.ask_in_steps(step)

    def ask_in_steps(self, step: int) -> None:
        """Ask a model on this machine about `step` rows together."""
        self._asker = open_asker(self.model, step=step)
        self.step, self.width = self._asker.step, self._asker.width

    def turns(self, count: int) -> Sequence[Turn]:
        """Return the asker's."""
        return self._asker.turns(count)

    def describe(self) -> Row:
        """Return the model, how it answers, version and hash of the prompt, the stage's version."""
        sampling = {name: each for name, each in asdict(self.params).items() if name != "n"}
        version, digest = self.prompt or (None, None)
        return (
            {"stage_version": self.settings.version}
            | model_settings(self.model)
            | {"prompt_version": version, "prompt_hash": digest}
            | sampling
        )

    def go_on(self, recorded: Mapping[str, Any]) -> None:
        """See `Model.go_on`."""
        self.model.go_on(recorded)

    def check(self, rows: Iterable[Row]) -> None:  # noqa: ARG002 - a model takes any
        """Contact a server; see `Model.check`."""
        self.model.check([], [])

    async def close(self) -> None:
        """Close the connections of the running event loop."""
        await self._asker.close()

    def made(
        self,
        row: Row,
        answers: Sequence[Answer],
        *,
        frame_indices: Sequence[int] | None = None,
    ) -> Row:
        """Return the `made` of a row of the log, see `provenance`."""
        return provenance(
            self.settings,
            row,
            model=self.model.spec,
            prompt=self.prompt,
            params=self.params,
            answers=answers,
            context=self._context,
            frame_indices=frame_indices,
        )
