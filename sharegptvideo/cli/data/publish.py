"""`sharegptvideo data publish`: a folder of data as a repository on the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharegptvideo.cli._common import JsonOption, note, print_figures, progress_bar

if TYPE_CHECKING:
    from sharegptvideo.data.publish import Published

__all__ = ["publish"]


def publish(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="A release, a synthetic world, or Parquet of `data convert`."
        ),
    ],
    repo_id: Annotated[
        str, typer.Option(metavar="OWNER/NAME", help="The dataset on the Hub; made if need be.")
    ],
    dry_run: Annotated[
        Path | None,
        typer.Option(metavar="OUT", help="Write the same files to OUT, and send nothing."),
    ] = None,
    config: Annotated[
        list[str] | None,
        typer.Option(help="Publish this config; more than once for more. All if left out."),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Make the new repository private.")
    ] = False,
    tag: Annotated[
        str | None, typer.Option(help='Tag the new version, as in "v1.1"; readers can pin it.')
    ] = None,
    changelog: Annotated[
        str | None, typer.Option(metavar="TEXT", help="One line that says what is new.")
    ] = None,
    title: Annotated[
        str | None, typer.Option(help="Title of the front page; NAME if left out.")
    ] = None,
    origin: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help='Where the rows come from, for the cards: "from TEXT".'),
    ] = None,
    embed_media: Annotated[
        Path | None,
        typer.Option(
            metavar="MEDIA", help="Folder with the videos: put each into its row, as `clip`."
        ),
    ] = None,
    cards: Annotated[
        Path | None,
        typer.Option(
            help="Folder with your own NAME.md as the card of config NAME. Or `package`: the rows "
            "are the release's, or of the set their config is named after, and the package's "
            "cards say how those were made. A neutral card if left out."
        ),
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(
            "--license", help="Licence on neutral cards, as in cc-by-4.0; unknown if left out."
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="Another folder: its test sets too must not be trained on."),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CHECK",
            help="Publish what this check finds all the same, and say so on the cards: leak-name, "
            "equal-sides or reversed-scores (repeatable).",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Publish a folder of data on the Hub: Parquet, cards, and a front page, in one commit.

    The rows are checked first, as `data validate DIR` without media checks them: that all can be
    loaded, that no pair has equal sides or reversed scores, and that no training video is a test
    video by its name. That reads every row once more, before anything is written or sent. Rows
    that `data download` did not bring get a neutral card with an unknown licence; of those that
    `build` made, the card says how.

    The repository has one config for each kind of rows, and loads with `datasets.load_dataset(ID,
    "qa")` without this package. The commit replaces what an earlier version had and leaves other
    files alone. Stopped in any way, the old version stays; the same command goes on with the files
    that are missing. The token is HF_TOKEN, or that of `hf auth login`.

    Example: sharegptvideo data publish path/to/release --repo-id alice/my-captions --dry-run out
    """
    from sharegptvideo.data.publish import publish as publish_folder

    with progress_bar() as progress:
        done = publish_folder(
            folder,
            repo_id,
            dry_run=dry_run,
            configs=config or (),
            private=private,
            tag=tag,
            changelog=changelog,
            title=title,
            origin=origin,
            media=embed_media,
            cards=None if cards is None else str(cards),
            licence=licence,
            against=against,
            allow=allow or (),
            progress=progress,
        )
    for line in done.tree.report.lines():
        note(line)
    print_figures(_figures(repo_id, done), as_json=as_json)
    _note_next(repo_id, done)


def _figures(repo_id: str, done: Published) -> dict[str, Any]:
    figures: dict[str, Any] = {"repo_id": repo_id, "rows": done.tree.rows}
    for facts in done.tree.configs:
        counts: dict[str, Any] = {split: files.rows for split, files in facts.splits.items()}
        if facts.clips is not None:
            counts["rows_with_clip"] = facts.clips.rows_with
            counts["rows_without_clip"] = facts.clips.rows_without
        figures[facts.config.name] = counts
    figures["files"] = done.files
    figures["bytes"] = done.bytes
    if done.uploaded is None:
        figures["folder"] = str(done.tree.root)
    else:
        figures["url"] = done.uploaded.url
        figures["commit"] = done.uploaded.commit
        figures["changed"] = done.uploaded.changed
        figures["deleted"] = len(done.uploaded.deleted)
    return figures


def _note_next(repo_id: str, done: Published) -> None:
    first = done.tree.configs[0].config.name
    for facts in done.tree.configs:
        if facts.left:
            left = ", ".join(facts.left)
            note(f"{facts.config.name}: columns outside the schema left out: {left}")
    for facts in done.tree.configs:
        for line in facts.checks:
            note(f"{facts.config.name}: {line}")
    neutral = [
        facts.config.name
        for facts in done.tree.configs
        if facts.template.neutral and not facts.template.built
    ]
    if neutral:
        note(
            f"neutral cards, which say nothing of how the rows came about: {', '.join(neutral)}; "
            "write your own (--cards DIR), or --cards package if the rows are the release's"
        )
    if done.uploaded is None:
        note(f"see {done.tree.root}/README.md, then run it without --dry-run")
    elif not done.uploaded.changed:
        note("the repository had all of it already; nothing was changed")
    else:
        note(f'load it: datasets.load_dataset("{repo_id}", "{first}")')
