"""The files of a published repository, in a folder: whole, or not there.

README.md                              front page: what is in it, how to load it, changelog
<config>/README.md                     the config's card
<config>/<split>-00000-of-00003.parquet
eval.yaml                              where there are test sets
croissant.json                         files, columns, licences, for programs
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sharegptvideo._concurrency import Progress
from sharegptvideo._io import os_errors, read_json, write_text
from sharegptvideo._shipped import __version__
from sharegptvideo._staging import STAGE, replacing_files
from sharegptvideo._text import plural
from sharegptvideo.data.download.plan import from_release
from sharegptvideo.data.publish.built import built_record, check_built, origin_of
from sharegptvideo.data.publish.cards import EVAL_FILE, card, eval_yaml, front_matter, front_page
from sharegptvideo.data.publish.clips import Clips
from sharegptvideo.data.publish.croissant import CROISSANT_FILE, croissant
from sharegptvideo.data.publish.facts import (
    CardTemplate,
    ConfigFacts,
    card_template,
    count_sources,
    first_row,
)
from sharegptvideo.data.publish.shards import SplitFiles, write_config
from sharegptvideo.data.schema import CLIP, CONFIGS, Config, config_of
from sharegptvideo.data.sources import ReadReport, Source, held_configs, open_source
from sharegptvideo.data.sources.parquet import ParquetSource
from sharegptvideo.data.sources.release import ReleaseSource
from sharegptvideo.data.validate import CHECKS, Report, validate
from sharegptvideo.data.validate.report import known_checks
from sharegptvideo.errors import UserError

__all__ = [
    "ALLOWED",
    "PAGE",
    "Pages",
    "Tree",
    "build_tree",
    "card_templates",
    "check_replaceable",
    "check_rows",
    "is_ours",
    "selected_configs",
]

PAGE = "README.md"


@dataclass(frozen=True, slots=True)
class Tree:
    """A repository's files in the folder `root`, and the facts on its pages.

    `report` lists the videos whose clips were not found, and the repeated rows left out.
    """

    root: Path
    configs: list[ConfigFacts]
    report: ReadReport

    @property
    def files(self) -> list[Path]:
        """All files, pages first."""
        paths = [path for path in self.root.rglob("*") if path.is_file()]
        return sorted(paths, key=lambda path: (path.suffix == ".parquet", path))

    @property
    def rows(self) -> int:
        """Rows of all configs."""
        return sum(facts.rows for facts in self.configs)


def is_ours(path: str) -> bool:
    """Return whether a path in a repository is a tree's, which a new version replaces."""
    if path in (PAGE, EVAL_FILE, CROISSANT_FILE):
        return True
    folder, _, name = path.partition("/")
    return folder in CONFIGS and (name == PAGE or ("/" not in name and name.endswith(".parquet")))


def selected_configs(folder: Path, names: Sequence[str]) -> list[Config]:
    """Return the configs to publish: those named, or all that the folder has.

    Raises:
        UserError: unknown name, one that the folder does not have, or one of which a run of
            building made nothing that may be published.
    """
    check_built(folder, names)
    asked = [config_of(name) for name in names]
    held = held_configs(folder)
    for config in asked:
        if config not in held:
            there = ", ".join(one.name for one in held)
            raise UserError(f"{folder}: nothing of {config.name!r} (it has {there})")
    return asked or held


ALLOWED = ("equal-sides", "reversed-scores", "leak-name")
"""Checks whose rows can be loaded as they are, so that they can be published all the same."""


def check_rows(
    folder: Path,
    configs: Sequence[Config],
    *,
    allow: Sequence[str] = (),
    against: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, tuple[str, ...]]:
    """Run the checks of `data validate` that need no media.

    Args:
        folder: what is to be published, or a part of it.
        configs: those to be published; of the others, test sets are compared with.
        allow: checks of `ALLOWED` whose findings stop nothing.
        against: a folder with more test sets that training videos must not be in.
        progress: called with rows now and then.

    Returns:
        by config, what each of `ALLOWED` found, a line each.

    Raises:
        UserError: there are errors; says how many and the first. Or a check that cannot be allowed.
    """
    for check in sorted(known_checks(allow)):
        if check not in ALLOWED:
            raise UserError(f"--allow {check}: only {', '.join(ALLOWED)} can be allowed")
    names = {config.name for config in configs}
    tests = [] if against is None else [against]
    if any(config.is_task and config.name not in names for config in held_configs(folder)):
        tests.append(folder)  # test sets that are not published count too
    report = validate(folder, configs=sorted(names), against=tests, progress=progress)
    errors = Counter({check: report.count(check, "error") for check in CHECKS.keys() - set(allow)})
    if errors.total():
        first = next(
            one for one in report.findings if one.severity == "error" and one.check not in allow
        )
        anyway = [f"--allow {check}" for check in ALLOWED if errors[check]]
        fix = ""
        if sum(errors[check] for check in ALLOWED) == errors.total():
            fix = f"; with {' '.join(anyway)} it is, and the cards say so"
        raise UserError(
            f"{folder}: {plural(errors.total(), 'error')}, first "
            f"{first.where or first.config}: {first.message} ({first.check}); "
            f"`sharegptvideo data validate {folder}` lists all; nothing was published{fix}",
            exit_code=1,
        )
    return {config.name: tuple(_check_lines(report, config)) for config in configs}


def _check_lines(report: Report, config: Config) -> Iterator[str]:
    for check in ALLOWED:
        fits = not config.is_task if check == "leak-name" else "rejected" in config.columns
        if not fits:
            continue
        what = f"{CHECKS[check].about}: "
        counts: Counter[str] = Counter()
        for (name, of, _), counter in report.counts.items():
            # A video of several configs is reported once.
            if name == check and (of == config.name or check == "leak-name"):
                counts += counter
        if check in report.skipped:
            yield f"{what}not looked for, {report.skipped[check].partition(';')[0]}"
        elif counts["error"]:
            where = " in all configs" if check == "leak-name" else ""
            yield f"{what}{counts['error']:,} found{where}, and published all the same"
        elif counts["warning"]:
            yield f"{what}none for certain, {counts['warning']:,} in doubt"
        else:
            yield f"{what}none"


@dataclass(frozen=True, slots=True)
class Pages:
    """What the pages of a repository say besides the facts of its files.

    Attributes:
        repo_id: OWNER/NAME.
        title: the front page's.
        changelog: entries, newest first.
        origin: where the rows come from; worked out from the folder if None.
        cards: a folder with card templates of one's own, in place of the package's.
        described: the package's own cards speak of these rows: they are the release's, or of the
            set that their config is named after. Where that is neither said nor shown by
            the files, a card says nothing of how the rows came about.
        licence: the licence of rows with such a card, as the Hub names it; unknown if None.
    """

    repo_id: str
    title: str
    changelog: Sequence[str]
    origin: str | None = None
    cards: Path | None = None
    described: bool = False
    licence: str | None = None


def build_tree(
    folder: Path,
    out: Path,
    configs: Sequence[Config],
    pages: Pages,
    *,
    checks: Mapping[str, tuple[str, ...]] | None = None,
    media: Path | None = None,
    progress: Progress | None = None,
) -> Tree:
    """Write the tree of a repository to `out`; what is there is replaced in one step at the end.

    Args:
        folder: a release, a world, or Parquet; rows are read strictly.
        out: absent, empty, or a tree of an earlier time (`check_replaceable`).
        configs: what to publish, the default config first.
        pages: what the pages say.
        checks: by config, what `check_rows` found.
        media: the folder with the clips, to put them into the rows.
        progress: called with rows and files now and then.

    Raises:
        UserError: a row breaks the schema, no rows at all, or a folder cannot be written.
    """
    check_replaceable(out)
    sources = [open_source(config, folder) for config in configs]
    templates = card_templates(folder, configs, pages)
    report = ReadReport()
    facts: list[ConfigFacts] = []
    with os_errors(out), replacing_files(out, obsolete=["**/*"]) as new:
        for config, source, template in zip(configs, sources, templates, strict=True):
            clips = None
            if media is not None and "video" in config.paths:  # images stay outside
                clips = Clips(media, report)
            splits = write_config(
                source, config, new, report=report, clips=clips, progress=progress
            )
            if splits:
                built = _built(folder, config, source)
                origin = _origin(folder, source, template, pages.origin, built)
                one = _facts(config, source, template, splits, origin, clips)
                facts.append(replace(one, checks=(checks or {}).get(config.name, ())))
        if not facts:
            raise UserError(f"{folder}: no rows to publish")
        _write_pages(new, facts, pages)
    return Tree(out, [_moved(one, new, out) for one in facts], report)


def card_templates(folder: Path, configs: Sequence[Config], pages: Pages) -> list[CardTemplate]:
    """Return the template of each config's card, without reading a row of `folder`.

    Raises:
        UserError: cards or a licence that will not do.
    """
    templates = []
    for config in configs:
        source = open_source(config, folder)
        known = pages.described or _is_described(config, source, folder)
        built = _built(folder, config, source) is not None
        templates.append(
            card_template(config, pages.cards, described=known, built=built, licence=pages.licence)
        )
    if pages.licence and not any(template.neutral for template in templates):
        raise UserError("--license is for neutral cards; those here name the licence themselves")
    return templates


def check_replaceable(out: Path) -> None:
    """Check that a tree may take the place of what is at `out`.

    Raises:
        UserError: a file, or a folder with anything that no tree has.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise UserError(f"{out}: a file; name a folder")
    held = [name for name in out.iterdir() if name.name != STAGE]  # left by a killed run
    for path in sorted(path for top in held for path in (top, *top.rglob("*"))):
        if path.is_file() and not is_ours(path.relative_to(out).as_posix()):
            raise UserError(
                f"{out}: holds {path.relative_to(out)}, which is no part of a published tree; "
                "name a new folder"
            )
    if held and not (out / PAGE).is_file():
        raise UserError(f"{out}: no published tree, it has no {PAGE}; name a new folder")


def _facts(
    config: Config,
    source: Source,
    template: CardTemplate,
    splits: dict[str, SplitFiles],
    origin: str,
    clips: Clips | None,
) -> ConfigFacts:
    return ConfigFacts(
        config=config,
        template=template,
        splits=splits,
        origin=origin,
        example=first_row(config, splits),
        sources=count_sources(config, splits),
        left=tuple(name for name in _left(source, config) if clips is None or name != CLIP),
        clips=None if clips is None else clips.count,
    )


def _is_described(config: Config, source: Source, folder: Path) -> bool:
    """Return whether the files show that the package's card of a config speaks of their rows.

    Those of a synthetic world have its record beside them; those of the release are as
    `data download` got them. A layout and names alone show nothing: anybody's rows may have them.
    """
    if not isinstance(source, ReleaseSource):
        return False
    if config.name.startswith("synthetic"):
        return source.label == "synthetic" and (folder / "world.json").exists()
    return all(from_release(folder, Path(file.name)) for file in source.files(config))


def _built(folder: Path, config: Config, source: Source) -> dict[str, Any] | None:
    """Return what a run of building says of a config's rows; None where others made them."""
    if isinstance(source, ParquetSource):
        paths = [path for split in source.splits(config) for path in source.paths(config, split)]
    elif isinstance(source, ReleaseSource):
        paths = [Path(file.name) for file in source.files(config)]
    else:
        return None
    return built_record(folder, config, paths)


def _left(source: Source, config: Config) -> tuple[str, ...]:
    """Return columns beside those of the schema, clips of an earlier version among them."""
    import pyarrow.parquet as pq

    if not isinstance(source, ParquetSource):
        return ()  # in the release they are fields that it does not list
    paths = [path for split in source.splits(config) for path in source.paths(config, split)]
    names = dict.fromkeys(name for path in paths for name in pq.read_schema(path).names)
    return tuple(name for name in names if name not in config.columns)


def _origin(
    folder: Path,
    source: Source,
    template: CardTemplate,
    given: str | None,
    built: dict[str, Any] | None,
) -> str:
    """Return what the card says of where the rows of this version come from."""
    by = f"Written by sharegptvideo {__version__}"
    if built is not None and template.neutral:
        clips = "" if given is None else f"The clips come from {given.strip().rstrip('.')}.\n\n"
        return clips + origin_of(built)
    if given is not None:
        return f"{by} from {given.strip().rstrip('.')}."
    if not isinstance(source, ReleaseSource):
        return f"{by} from Parquet files, which carry no record of where their rows come from."
    if source.label != "synthetic" and template.neutral:
        return f"{by} from files in the release's layout; where their rows come from is not known."
    if source.label != "synthetic":
        return f"{by} from a copy of the release's files."
    world = folder / "world.json"
    if not world.exists():
        return f"{by} from a synthetic world."
    settings = read_json(world)["settings"]
    sizes = ", ".join(f"{name} {count}" for name, count in settings["sizes"].items())
    return f"{by} from the synthetic world with seed {settings['seed']} and sizes {sizes}."


def _write_pages(out: Path, facts: Sequence[ConfigFacts], pages: Pages) -> None:
    for one in facts:
        write_text(out / one.config.name / PAGE, card(one))
    head = front_matter(facts, repo_id=pages.repo_id, title=pages.title)
    page = front_page(facts, repo_id=pages.repo_id, title=pages.title, changelog=pages.changelog)
    write_text(out / PAGE, head + page)
    about = croissant(facts, repo_id=pages.repo_id, title=pages.title, changelog=pages.changelog)
    write_text(out / CROISSANT_FILE, about)
    benchmark = eval_yaml(facts, title=pages.title)
    if benchmark is not None:
        write_text(out / EVAL_FILE, benchmark)


def _moved(facts: ConfigFacts, old: Path, new: Path) -> ConfigFacts:
    """Return the facts with the files' paths in their final folder."""
    splits = {
        name: replace(split, files=tuple(new / path.relative_to(old) for path in split.files))
        for name, split in facts.splits.items()
    }
    return replace(facts, splits=splits)
