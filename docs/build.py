"""Build the documentation site, offline: `python docs/build.py FOLDER`.

FOLDER/pages   Markdown: the files of docs/, README.md as the first page, what they link to in the
               repository, and reference pages made from schemas, help texts and docstrings
FOLDER/site    HTML; open index.html
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
LINK = re.compile(r"(?<=\]\()(?![a-z]+:)([^)\s#]+)")
PICTURES = (".png", ".svg", ".mp4")


def build(out: Path) -> Path:
    """Write pages and site below `out`; return the site's folder.

    Raises:
        RuntimeError: a link leads nowhere, or Zensical warned of something; with what it said. Or
            `out` holds something else.
    """
    if out.exists() and any(out.iterdir()) and not (out / "pages").is_dir():
        raise RuntimeError(f"{out}: not empty, and no site was made there; name another folder")
    shutil.rmtree(out, ignore_errors=True)
    pages = out / "pages"
    for path in sorted(DOCS.rglob("*")):
        if path.is_file() and path.suffix not in (".md", ".html", ".py", ".toml"):
            _copy(path, pages / path.relative_to(DOCS))
    _write_linked(pages, [ROOT / "README.md", *DOCS.rglob("*.md"), *_named_in_navigation()])
    for name, text in (*_commands(), *_tasks(), *_files(), *_python()):
        _write(pages / "reference" / name, text)
    shutil.copyfile(DOCS / "zensical.toml", out / "zensical.toml")
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=out, capture_output=True, text=True, env=os.environ | {"NO_COLOR": "1"},
    )  # fmt: skip
    said = done.stdout + done.stderr
    if done.returncode or "arning" in said or "griffe:" in said:
        raise RuntimeError(f"the site was not built without warnings:\n{said}")
    return out / "site"


def _copy(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, to)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


# Pages of the repository


def place(path: Path) -> PurePosixPath:
    """Return where a file of the repository lies among the pages."""
    name = PurePosixPath(path.relative_to(ROOT).as_posix())
    if name.as_posix() == "README.md":
        return PurePosixPath("index.md")
    if name.parts[0] == "docs":
        return name.relative_to("docs")
    if path.suffix in (".md", *PICTURES):
        return "project" / name
    return PurePosixPath("source", f"{name}.md")


def _named_in_navigation() -> Iterator[Path]:
    text = (DOCS / "zensical.toml").read_text("utf-8")
    for name in re.findall(r'"project/([^"]+)"', text):
        yield ROOT / name


def _write_linked(pages: Path, first: list[Path]) -> None:
    """Write these files and all that they link to, with their links led to where the pages lie."""
    waiting, written = list(first), set[Path]()
    while waiting:
        path = waiting.pop()
        if path in written:
            continue
        written.add(path)
        to = pages / place(path)
        if path.suffix in PICTURES:
            _copy(path, to)
        elif path.suffix == ".md":
            text, linked = _led(path)
            waiting += linked
            _write(to, text)
        else:
            name = path.relative_to(ROOT).as_posix()
            code = path.read_text("utf-8")
            _write(to, f"# {path.name}\n\n`{name}`\n\n````{path.suffix[1:]}\n{code}\n````\n")


def _led(path: Path) -> tuple[str, list[Path]]:
    """Return the text of a page with its links as they are in the site, and where they lead."""
    linked: list[Path] = []

    def led(match: re.Match[str]) -> str:
        target = Path(os.path.normpath(path.parent / match[1]))
        if target.is_dir():
            target /= "README.md"
        if not target.is_file():
            raise RuntimeError(f"{path}: {match[1]}: no such file")
        if target.suffix not in (".html", ".csv"):
            linked.append(target)
        return os.path.relpath(place(target), place(path).parent)

    parts = re.split(r"(^```.*?^```|`[^`\n]+`)", path.read_text("utf-8"), flags=re.M | re.S)
    parts[::2] = [LINK.sub(led, part) for part in parts[::2]]
    return "".join(parts), linked


# The command line


def _commands() -> Iterator[tuple[str, str]]:
    """Yield a page for each command, from its help."""
    text = subprocess.run(
        [sys.executable, "-m", "typer", "sharegptvideo.cli", "utils", "docs",
         "--name", "sharegptvideo"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for part in re.split(r"^(?=## )", text, flags=re.M)[1:]:
        name = re.match(r"## `sharegptvideo (.+)`", part)
        assert name is not None, part[:80]
        part = re.sub(r"^#(#+ )", r"\1", part, flags=re.M)  # a level up
        # Each command has a heading of its own; this list has their first words.
        part = re.sub(r"^\*\*Commands\*\*:\n\n(?:\* .*\n)+\n", "", part, flags=re.M)
        part = re.sub(r"^Example: (.*(?:\n.+)*)", _example, part, flags=re.M)
        yield f"commands/{name[1]}.md", part


def _example(match: re.Match[str]) -> str:
    """Return the command of an example as code, without the marks that make it bold."""
    command = html.unescape(re.sub(r"</?span[^>]*>", "", match[1]))
    command = re.sub(r"\n(?!sharegptvideo)", " \\\\\n    ", command)
    return f"Example:\n\n```bash\n{command}\n```"


# Files that people write, and those that come along


def _tasks() -> Iterator[tuple[str, str]]:
    """Yield a page with the tasks, from their files."""
    from sharegptvideo.eval.tasks import list_tasks

    tasks = list_tasks()
    groups = sorted({group for task in tasks for group in task.groups})
    text = "# The tasks\n\n`--task` takes names and groups, separated by commas.\n\n"
    text += "| group | tasks |\n| --- | --- |\n"
    for group in groups:
        names = ", ".join(f"[{each.name}](#{each.name})" for each in tasks if group in each.groups)
        text += f"| `{group}` | {names} |\n"
    for task in tasks:
        by_rules = task.form in ("yes-no", "choice")
        judged = "read by fixed rules" if by_rules else f"judged by the protocol `{task.protocol}`"
        lines = [f"## {task.name}", f"{task.title}."]
        lines += [f"Answers: {task.form}, {judged}; {task.frames} frames; version {task.version}."]
        lines += [f"From {task.source}.", *([f"{task.data}."] if task.data else [])]
        text += "\n" + "\n\n".join(lines) + "\n"
    yield "tasks.md", text


def _files() -> Iterator[tuple[str, str]]:
    """Yield a page for each kind of file, from its schema."""
    from sharegptvideo.build.loop_file import Loop
    from sharegptvideo.eval.tasks import Task
    from sharegptvideo.training.recipes import DpoRecipe, SftRecipe

    yield "files/recipe.md", (
        "# Keys of a recipe\n\n`sharegptvideo train validate RECIPE` prints all of them with their"
        " values; `KEY=VALUE` after a command changes one, with dots between levels.\n\n"
        "## stage: pretrain, sft\n\n" + _keys(SftRecipe.model_json_schema())
        + "\n## stage: dpo\n\nThe same keys, and:\n\n"
        + _keys(DpoRecipe.model_json_schema(), but=set(SftRecipe.model_fields))
    )  # fmt: skip
    yield (
        "files/task.md",
        (
            "# Keys of a task\n\n`include` names parts, of `eval/tasks/parts`, that give keys.\n\n"
            + _keys(Task.model_json_schema())
        ),
    )
    yield "files/loop.md", "# Keys of a loop\n\n" + _keys(Loop.model_json_schema())


def _keys(schema: dict[str, Any], but: Collection[str] = ()) -> str:
    """Return a table of a schema's keys but those in `but`, and one for each section below it."""
    sections: dict[str, dict[str, Any]] = {"": schema}
    text = ""
    while sections:
        name, section = next(iter(sections.items()))
        del sections[name]
        if name:
            text += f"\n### {name}\n\n"
        text += section.get("description", "") + "\n\n"
        text += "| key | type and range | default |\n| --- | --- | --- |\n"
        for key, field in section["properties"].items():
            if name or key not in but:
                kind = _kind(field, schema.get("$defs", {}), f"{name}.{key}".strip("."), sections)
                text += f"| `{key}` | {kind} | {_default(key, field, section)} |\n"
    return text


def _default(key: str, field: dict[str, Any], section: dict[str, Any]) -> str:
    if key in section.get("required", ()):
        return "needed"
    value = field.get("default")
    if isinstance(value, dict):
        return "its own"
    return f"`{json.dumps(value)}`" if "default" in field else ""


def _kind(
    field: dict[str, Any], known: dict[str, Any], path: str, sections: dict[str, dict[str, Any]]
) -> str:
    """Return a field's type in words; what it refers to is added to `sections`."""
    if "$ref" in field:
        sections.setdefault(path, known[field["$ref"].rpartition("/")[2]])
        return f"section [{path}](#{path.replace('.', '').lower()})"
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{json.dumps(one).strip(chr(34))}`" for one in field["enum"])
    options = field.get("anyOf") or field.get("oneOf")
    if options:
        return ", or ".join(_kind(one, known, path, sections) for one in options)
    kind = {"string": "text", "integer": "whole number", "boolean": "`true`, `false`"}.get(
        field.get("type", ""), field.get("type", "any")
    )
    if kind == "array":
        kind = f"list of: {_kind(field.get('items', {}), known, path, sections)}"
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    ranges = [f"{sign} {field[key]:,}" for key, sign in signs.items() if key in field]
    if "minItems" in field:
        ranges.append("not empty")
    return f"{kind} {', '.join(ranges)}".strip()


# Docstrings


def _python() -> Iterator[tuple[str, str]]:
    """Yield a page for each public package that the navigation names; mkdocstrings fills it."""
    text = (DOCS / "zensical.toml").read_text("utf-8")
    for name in re.findall(r'"reference/python/([\w.]+)\.md"', text):
        yield f"python/{name}.md", f"# {name}\n\n::: {name}\n"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python docs/build.py FOLDER")
    try:
        print(build(Path(sys.argv[1])) / "index.html")
    except RuntimeError as error:
        sys.exit(str(error))
