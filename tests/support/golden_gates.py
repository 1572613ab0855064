"""Rows for every gate, with what the gates say of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sharegptvideo.build.gates import GateSettings, check_rows

__all__ = ["ASKED", "CAPTIONS", "TEST_ROW", "asked_rows", "gates", "write_tests"]

_DOG = (
    "A brown dog with a red collar runs over the grass, then it stops beside two small cats. "
    "A woman in a blue coat throws a yellow ball, and the dog brings it back to her feet."
)
_KITCHEN = (
    "A man in a white apron chops onions on a wooden board. He then slides them into a pan, stirs "
    "slowly with a spoon, and at the end tastes the sauce and nods at the camera."
)

CAPTIONS: dict[str, str] = {
    "dog": _DOG,
    "dog again": _DOG.replace("yellow", "green"),
    "kitchen": _KITCHEN,
    "kitchen, refused": "I'm sorry, but I can't describe the video.",
    "empty": " ... ",
    "short": "A dog runs.",
    "German": "Ein Mann mit einem roten Hut geht über die Straße, und eine Frau winkt ihm zu.",
    "Chinese": "一个男人走过街道，然后停下来看着一只狗。",
    "still": "The image shows a small red car in front of a white house with a green door.",
    "walking": "A woman with long dark hair walks along the beach at dawn.",
    "babble": "The woman is holding a cup and " * 12 + "smiles.",
    "test text": "A child builds a tall tower of blue wooden blocks, then it falls on the rug.",
}
"""Captions by id."""

ASKED: dict[str, tuple[str, str, str]] = {
    "color": ("dog", "What color is the collar?", "The collar is red."),
    "color again": ("dog", "What is the colour of the collar?", "It is red."),
    "color elsewhere": ("kitchen", "What color is the apron?", "The apron is white."),
    "not there": ("dog", "What does the dog run over?", "A skateboard."),
    "given away": ("dog", "What color is the red collar?", "Red."),
    "yes": ("dog", "Is the coat blue?", "Yes."),
    "no": ("dog", "Is there a horse?", "No, there is no horse."),
    "counted": ("dog", "How many cats are there?", "Three."),
    "unknown": ("kitchen", "How old is the man?", "The caption does not mention his age."),
    "no question": ("kitchen", "The man chops onions.", "Onions."),
    "French": ("kitchen", "Que fait la femme dans la cuisine ?", "Elle est dans la rue."),
    "long": (
        "kitchen",
        "What does the man in the apron do after he has chopped the onions on the board?",
        "He slides them into a pan and stirs slowly with a spoon.",
    ),
    "long elsewhere": (
        "kitchen",
        "What does the man in the apron do after he has chopped onions on the board?",
        "He slides them into a pan and stirs slowly with a spoon.",
    ),
}
"""Questions by id: whose clip, question, answer."""

TEST_ROW = {
    "id": "test_0",
    "video": "test/msrvtt/video7",
    "caption": CAPTIONS["test text"].upper(),
    "conversations": [
        {"from": "human", "value": "<video>\nWhat falls?"},
        {"from": "gpt", "value": "A tower of blue blocks."},
    ],
}


def asked_rows() -> list[dict[str, Any]]:
    """Rows of `ASKED`, those "elsewhere" about a clip of their own."""
    return [
        {
            "id": id,
            "video": f"{clip} 2" if "elsewhere" in id else clip,
            "question": question,
            "answer": answer,
            "caption": CAPTIONS[clip],
        }
        for id, (clip, question, answer) in ASKED.items()
    ]


def write_tests(folder: Path) -> Path:
    """Write a folder whose only test set holds `TEST_ROW`."""
    file = folder / "video_instruction" / "test" / "msrvtt.qa.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(TEST_ROW) + "\n", encoding="utf-8")
    return folder


def gates(scratch: Path) -> dict[str, Any]:
    """Each row's gates and reasons; the folder's name is left out of these."""
    settings = GateSettings(workers=1)
    tests = write_tests(scratch / "tests")
    captions = [{"id": id, "video": f"clip of {id}", "caption": CAPTIONS[id]} for id in CAPTIONS]
    captions.append(
        {"id": "leak", "video": "train/video7.mp4", "source": "msrvtt", "caption": _DOG}
    )
    asked = asked_rows()
    table: dict[str, Any] = {}
    for report in (
        check_rows("captions", captions, settings=settings, against=[tests]),
        check_rows("qa", asked, settings=settings, against=[tests]),
    ):
        causes = {row.id: [str(cause) for cause in row.causes] for row in report.flagged}
        rows = captions if report.kind == "captions" else asked
        for row in rows:
            reasons = [text.replace(str(tests), "FOLDER") for text in causes.get(row["id"], [])]
            table[f"{report.kind}: {row['id']}"] = reasons
    return table
