"""The conversation format, and which tokens count as the answer."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sharegptvideo.errors import UserError
from sharegptvideo.models import (
    Request,
    SamplingParams,
    conversation,
    encode,
    expand_video,
    load_tokenizer,
    open_model,
)
from sharegptvideo.models.prompts import CHAT_TEMPLATE
from sharegptvideo.training import load_recipe
from sharegptvideo.training.families import open_family


def test_the_format_is_video_llavas(tiny: Path) -> None:
    tokenizer = load_tokenizer(str(tiny))
    ids, assistant_mask = encode(tokenizer, conversation("What is it?", "It is red."))
    assert tokenizer.decode(ids) == "<s>USER: <video>\nWhat is it? ASSISTANT: It is red.</s>"
    answer = [i for i, said in zip(ids, assistant_mask, strict=True) if said]
    assert tokenizer.decode(answer) == " It is red.</s>"


def test_the_prompt_is_where_the_answer_begins(tiny: Path) -> None:
    tokenizer = load_tokenizer(str(tiny))
    prompt, none_spoken = encode(tokenizer, conversation("What is it?"))
    whole, assistant_mask = encode(tokenizer, conversation("What is it?", "It is red."))
    assert not any(none_spoken)
    assert whole[: len(prompt)] == prompt
    assert assistant_mask.index(True) == len(prompt)


def test_every_answer_of_a_longer_talk_counts(tiny: Path) -> None:
    tokenizer = load_tokenizer(str(tiny))
    messages = [
        {"role": "system", "content": "Be short."},
        *conversation("What is it?", "Red."),
        *conversation("Sure?", "Yes."),
    ]
    ids, assistant_mask = encode(tokenizer, messages)
    text = "<s>Be short. USER: <video>\nWhat is it? ASSISTANT: Red.</s>USER: Sure? ASSISTANT: Yes."
    assert tokenizer.decode(ids) == text + "</s>"
    answers = [i for i, said in zip(ids, assistant_mask, strict=True) if said]
    assert tokenizer.decode(answers) == " Red.</s> Yes.</s>"


@pytest.mark.parametrize("writes", [False, True])
@pytest.mark.parametrize("adds", [False, True])
def test_one_mark_at_the_beginning(writes: bool, adds: bool, tiny: Path) -> None:
    """Whether the template writes the mark, the tokenizer adds it, or both do."""
    from tokenizers import processors

    tokenizer = load_tokenizer(str(tiny))
    if writes:
        tokenizer.chat_template = "{{ bos_token }}" + CHAT_TEMPLATE
    if not adds:
        tokenizer.backend_tokenizer.post_processor = processors.ByteLevel()
    turns = [*conversation("What is it?", "Red."), *conversation("Sure?", "Yes.")]
    for messages in (turns, turns[:1], turns[:3]):
        ids, assistant_mask = encode(tokenizer, messages)
        begins = [True] if writes or adds else []
        assert [one == tokenizer.bos_token_id for one in ids[: len(begins) + 3]] == (
            begins + [False] * 3
        )
        assert ids.count(tokenizer.bos_token_id) == len(begins)
        said = [i for i, one in zip(ids, assistant_mask, strict=True) if one]
        assert (
            tokenizer.decode(said)
            == {4: " Red.</s> Yes.</s>", 1: "", 3: " Red.</s>"}[len(messages)]
        )


@pytest.mark.parametrize("writes", [False, True])
def test_nothing_follows_a_prompt(writes: bool, tiny: Path, tmp_path: Path) -> None:
    """Tokenizers of many trainings were saved to put an end token after every text."""
    from tokenizers import processors

    saved = load_tokenizer(str(tiny))
    if writes:
        saved.chat_template = "\n" + "{{ bos_token }}" + CHAT_TEMPLATE
    saved.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        special_tokens=[(mark, saved.convert_tokens_to_ids(mark)) for mark in ("<s>", "</s>")],
    )
    saved.save_pretrained(tmp_path)
    assert saved("a")["input_ids"][-1] == saved.eos_token_id
    tokenizer = load_tokenizer(str(tmp_path))
    for answer, ends in ((None, 0), ("Red.", 1)):
        ids, said = encode(tokenizer, conversation("What is it?", answer))
        assert ids.count(tokenizer.bos_token_id) == 1
        assert ids.count(tokenizer.eos_token_id) == ends
        assert sum(said) == len(tokenizer(" Red.</s>", add_special_tokens=False)["input_ids"]) * (
            ends
        )


BAD_TEMPLATES = {
    "{% for x in %}": "chat template cannot be used (Expected an expression",
    "{{ raise_exception('only for turtles') }}": "cannot be used (only for turtles)",
    "{{ messages[7]['content'] + 1 }}": "chat template cannot be used",
    "{% for m in messages %}{{ m['role'] }}{% endfor %}": "has no place for a clip",
}


@pytest.mark.parametrize(("template", "line"), BAD_TEMPLATES.items())
def test_templates_that_will_not_do(template: str, line: str, tiny: Path, tmp_path: Path) -> None:
    """Said as the model is opened, by training and evaluation alike."""
    model = shutil.copytree(tiny, tmp_path / "model")
    (model / "chat_template.jinja").write_text(template)
    with pytest.raises(UserError, match=re.escape(line)):
        open_model(f"hf:{model}")


def changed(model: Path, file: str, **changes: Any) -> None:
    path = model / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_tokenizers_that_will_not_do(tiny: Path, tmp_path: Path) -> None:
    model = shutil.copytree(tiny, tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    few = config["text_config"] | {"vocab_size": 200}
    changed(model, "config.json", text_config=few)
    with pytest.raises(UserError, match=r"of its tokenizer, .* without an embedding .it has 200."):
        open_model(f"hf:{model}")
    changed(model, "config.json", text_config=config["text_config"], video_token_index=3)
    with pytest.raises(UserError, match="its config has 3 for a clip"):
        open_model(f"hf:{model}")
    # A pad token of the tokenizer alone is not used, so nothing is wrong.
    changed(model, "config.json", video_token_index=config["video_token_index"])
    changed(model, "tokenizer_config.json", pad_token="[NEW]")
    open_model(f"hf:{model}")


def test_a_model_that_nothing_stops(tiny: Path, tmp_path: Path) -> None:
    """Evaluation has no end to look for, and training none to teach."""
    model = shutil.copytree(tiny, tmp_path / "model")
    changed(model, "tokenizer_config.json", eos_token=None)
    config = json.loads((model / "config.json").read_text())
    changed(model, "config.json", text_config=config["text_config"] | {"eos_token_id": None})
    changed(model, "generation_config.json", eos_token_id=None)
    frames = np.zeros((4, 16, 16, 3), dtype=np.uint8)
    with pytest.raises(UserError, match="nothing ends its answers; name eos_token_id"):
        list(open_model(f"hf:{model}").generate([Request("?", frames=frames)], SamplingParams()))
    for weights in (True, False):
        with pytest.raises(UserError, match="closes no answer with an end token"):
            open_family(load_recipe("demo/sft", [f"model={model}"]), weights=weights)


def test_any_text_comes_back(tiny: Path) -> None:
    tokenizer = load_tokenizer(str(tiny))
    text = "Zoë's 犬 says ☂ \t\n twice — 100 %"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_frequent_words_are_one_token(tiny: Path) -> None:
    tokenizer = load_tokenizer(str(tiny))
    for word in (" picture", " colour", " brighter", "USER", " ASSISTANT", ":"):
        assert len(tokenizer(word, add_special_tokens=False)["input_ids"]) == 1, word


def test_the_clip_takes_its_positions() -> None:
    ids, assistant_mask = expand_video(
        [1, 9, 2, 3], [False, False, False, True], video_token=9, count=3
    )
    assert ids == [1, 9, 9, 9, 2, 3]
    assert assistant_mask == [False] * 5 + [True]


@pytest.mark.parametrize(
    ("messages", "cause"),
    [
        (conversation("Where is <video>?"), "may not stand in a text"),
        ([{"role": "assistant", "content": "Hm."}], "no conversation"),
        ([{"role": "tool", "content": "Hm."}], "no conversation"),
    ],
)
def test_what_is_no_conversation_is_refused(
    messages: list[dict[str, str]], cause: str, tiny: Path
) -> None:
    with pytest.raises(UserError, match=cause):
        encode(load_tokenizer(str(tiny)), messages)
