"""`croissant.json`: what a published repository holds, for readers of Croissant 1.0.

The Hub makes such a record itself of every repository that it can show, from its own copy of the
rows. That leaves out columns of videos; this one has them, says what each config's licence is, and
lies beside the files, offline too.

The format: https://docs.mlcommons.org/croissant/docs/croissant-spec.html
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Sequence
from typing import Any

from sharegptvideo._text import plural
from sharegptvideo.data.publish.facts import ConfigFacts
from sharegptvideo.data.schema import CLIP

__all__ = ["CROISSANT_FILE", "croissant"]

CROISSANT_FILE = "croissant.json"

_VERSION = "http://mlcommons.org/croissant/1.0"
# A git repository has no one hash; this is what the specification's authors have in its place.
_NO_HASH = "https://github.com/mlcommons/croissant/issues/80"
_TERMS = (
    "citeAs column conformsTo equivalentProperty extract field fileProperty fileObject fileSet "
    "format includes isLiveDataset jsonPath key md5 parentField path recordSet references regex "
    "repeated replace samplingRate separator source subField transform"
)


def croissant(
    configs: Sequence[ConfigFacts], *, repo_id: str, title: str, changelog: Sequence[str]
) -> str:
    """Return the record of a repository; the changelog's newest entry, `- VERSION: ...`, first."""
    owner, name = repo_id.split("/")
    version = changelog[0].removeprefix("- ").partition(": ")[0]
    rows = sum(facts.rows for facts in configs)
    record: dict[str, Any] = {
        "@context": _context(),
        "@type": "sc:Dataset",
        "conformsTo": _VERSION,
        "name": name,
        "description": f"{title}: {plural(rows, 'row')} in "
        f"{', '.join(facts.config.name for facts in configs)}. "
        + " ".join(f"{facts.template.title}." for facts in configs),
        "url": f"https://huggingface.co/datasets/{repo_id}",
        "creator": {"@type": "sc:Organization", "name": owner},
        "license": list(dict.fromkeys(facts.template.licence for facts in configs)),
        "keywords": _union(facts.template.head["tags"] for facts in configs),
        "inLanguage": _union(facts.template.head["language"] for facts in configs),
        "version": version,
    }
    if _is_date(version):
        record["datePublished"] = version
    citations = [text for facts in configs if (text := _citation(facts.template.body))]
    if citations:
        record["citeAs"] = citations[0]
    record["distribution"] = [
        {
            "@type": "cr:FileObject",
            "@id": "repo",
            "name": "repo",
            "description": "The repository on the Hub.",
            "contentUrl": record["url"],
            "encodingFormat": "git+https",
            "sha256": _NO_HASH,
        },
        *(_files(facts) for facts in configs),
    ]
    record["recordSet"] = [part for facts in configs for part in _record_sets(facts)]
    return json.dumps(record, ensure_ascii=False, indent=2) + "\n"


def _context() -> dict[str, Any]:
    context: dict[str, Any] = {
        "@language": "en",
        "@vocab": "https://schema.org/",
        "cr": "http://mlcommons.org/croissant/",
        "dct": "http://purl.org/dc/terms/",
        "sc": "https://schema.org/",
    }
    context |= {term: f"cr:{term}" for term in _TERMS.split()}
    context["conformsTo"] = "dct:conformsTo"
    context["rai"] = "http://mlcommons.org/croissant/RAI/"
    context |= {term: {"@id": f"cr:{term}", "@type": "@json"} for term in ("data", "examples")}
    context["dataType"] = {"@id": "cr:dataType", "@type": "@vocab"}
    return context


def _union(lists: Any) -> list[str]:
    return list(dict.fromkeys(value for values in lists for value in values))


def _citation(card: str) -> str:
    """Return what a card has under the heading "Citation", without the marks of its block."""
    section = card.partition("\n## Citation\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if not line.startswith("```")]
    return "\n".join(lines).strip()


def _is_date(text: str) -> bool:
    try:
        datetime.date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _files(facts: ConfigFacts) -> dict[str, Any]:
    name = facts.config.name
    return {
        "@type": "cr:FileSet",
        "@id": f"{name}-files",
        "name": f"{name}-files",
        "containedIn": {"@id": "repo"},
        "encodingFormat": "application/x-parquet",
        "includes": f"{name}/*.parquet",
    }


def _record_sets(facts: ConfigFacts) -> Iterator[dict[str, Any]]:
    """Yield the names of a config's splits, and its rows."""
    name, splits = facts.config.name, facts.splits
    split: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": f"{name}-splits/split",
        "dataType": "sc:Text",
    }
    yield {
        "@type": "cr:RecordSet",
        "@id": f"{name}-splits",
        "name": f"{name}-splits",
        "key": {"@id": f"{name}-splits/split"},
        "dataType": "cr:Split",
        "field": [split],
        "data": [{f"{name}-splits/split": one} for one in splits],
    }
    counts = ", ".join(f"{one} {plural(files.rows, 'row')}" for one, files in splits.items())
    fields = [_field(name, column, feature) for column, feature in facts.features.items()]
    yield {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": f"{facts.template.title} ({counts}; licence {facts.template.licence})",
        "key": {"@id": f"{name}/id"},
        "field": [_split_field(name), *fields],
    }


def _split_field(config: str) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"{config}/split",
        "name": f"{config}/split",
        "description": "The split, from the name of the row's file.",
        "dataType": "sc:Text",
        "source": {
            "fileSet": {"@id": f"{config}-files"},
            "extract": {"fileProperty": "fullpath"},
            # Readers put the name through it once more: `train` gives `train`.
            "transform": {"regex": r"(?:.*/)?([a-z]+)(?:-.+parquet)?$"},
        },
        "references": {"field": {"@id": f"{config}-splits/split"}},
    }


def _field(config: str, column: str, feature: Any) -> dict[str, Any]:
    """Return the field of a column: text, numbers, a list of texts by name, or a clip's bytes."""
    from datasets import List, Value

    place = f"{config}/{column}"
    source: dict[str, Any] = {
        "fileSet": {"@id": f"{config}-files"},
        "extract": {"column": column},
    }
    field: dict[str, Any] = {"@type": "cr:Field", "@id": place, "name": place}
    if column == CLIP:
        source["transform"] = {"jsonPath": "bytes"}
        return field | {"dataType": "sc:VideoObject", "source": source}
    if isinstance(feature, List):
        parts = [
            {
                "@type": "cr:Field",
                "@id": f"{place}/{part}",
                "name": f"{place}/{part}",
                "dataType": "sc:Text",
                "source": source | {"transform": {"jsonPath": part}},
            }
            for part in feature.feature
        ]
        return field | {"repeated": True, "source": source, "subField": parts}
    assert isinstance(feature, Value)
    kind = "sc:Float" if feature.dtype == "float64" else "sc:Text"
    return field | {"dataType": kind, "source": source}
