"""What a release and the repository's page need: changelog, citation, issue forms, workflows."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"))

# The keys of the Citation File Format 1.2.0, by its schema.
CITATION_KEYS = {
    "abstract", "authors", "cff-version", "commit", "contact", "date-released", "doi",
    "identifiers", "keywords", "license", "license-url", "message", "preferred-citation",
    "references", "repository", "repository-artifact", "repository-code", "title", "type", "url",
    "version",
}  # fmt: skip
PERSON_KEYS = {
    "address", "affiliation", "alias", "city", "country", "email", "family-names", "fax",
    "given-names", "name-particle", "name-suffix", "orcid", "post-code", "region", "tel", "website",
}  # fmt: skip
ENTITY_KEYS = (PERSON_KEYS | {"date-end", "date-start", "location", "name"}) - {
    "affiliation", "family-names", "given-names", "name-particle", "name-suffix",
}  # fmt: skip


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def test_citation_is_of_this_version_and_of_its_format() -> None:
    citation = read(ROOT / "CITATION.cff")
    assert citation.keys() <= CITATION_KEYS
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] in ("software", "dataset")
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    for cited in (citation, *citation["references"]):
        assert {"title", "authors"} <= cited.keys()
        for author in cited["authors"]:
            assert author.keys() <= (ENTITY_KEYS if "name" in author else PERSON_KEYS)
    for reference in citation["references"]:
        assert reference["type"] in ("article", "conference-paper", "report")
        assert all({"type", "value"} <= each.keys() for each in reference["identifiers"])


def test_changelog_has_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    first = re.search(r"^## (.+)$", text, re.MULTILINE)
    assert first is not None
    assert PROJECT["version"] in first[1]


@pytest.mark.parametrize("file", FORMS, ids=lambda file: str(file.stem))
def test_issue_forms_are_forms(file: Path) -> None:
    form = read(file)
    assert {"name", "description", "body"} <= form.keys() <= {
        "name", "description", "body", "title", "labels", "assignees", "projects", "type"
    }  # fmt: skip
    known = {"markdown", "textarea", "input", "dropdown", "checkboxes"}
    ids = [part["id"] for part in form["body"] if part["type"] != "markdown"]
    assert len(ids) == len(set(ids)) > 0
    for part in form["body"]:
        assert part["type"] in known
        assert part.keys() <= {"type", "id", "attributes", "validations"}
        needed = {"markdown": "value"}.get(part["type"], "label")
        assert part["attributes"][needed]
        assert ("options" in part["attributes"]) == (part["type"] in ("dropdown", "checkboxes"))


def test_there_are_forms_for_bugs_submissions_and_tasks() -> None:
    assert {file.stem for file in FORMS} >= {"bug", "submission", "task"}


def steps(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: str(file.stem))
def test_actions_of_workflows_are_pinned_and_their_shell_is_shell(file: Path) -> None:
    for line in re.findall(r"uses: (.+)", file.read_text("utf-8")):
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} {1,2}# v\d+\.\d+\.\d+", line), line
    for step in steps(read(file)):
        assert ("run" in step) != ("uses" in step)
        if "run" in step:
            subprocess.run(["bash", "-n", "-c", step["run"]], check=True)


def test_only_publishing_may_ask_for_a_token() -> None:
    release = read(ROOT / ".github" / "workflows" / "release.yml")
    assert release["permissions"] == {}
    assert release["jobs"]["build"]["permissions"] == {"contents": "read"}
    publish = release["jobs"]["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert (publish["needs"], publish["environment"]) == ("build", "pypi")
    assert not [step for step in publish["steps"] if "run" in step], "it builds and runs nothing"
    for command in ("make dist", ".ci/run"):
        assert command in [step.get("run") for step in release["jobs"]["build"]["steps"]]


def test_a_release_is_of_the_version_and_in_the_changelog(tmp_path: Path) -> None:
    """The first step of the workflow, run."""
    release = read(ROOT / ".github" / "workflows" / "release.yml")
    script = next(step["run"] for step in steps(release) if "GITHUB_REF_NAME" in str(step))
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.0"\n')

    def run(tag: str, changelog: str) -> str:
        (tmp_path / "CHANGELOG.md").write_text(changelog)
        ran = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", script],
            cwd=tmp_path, env=os.environ | {"GITHUB_REF_NAME": tag},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return f"{ran.returncode} {ran.stderr.strip()}"

    assert run("v1.2.0", "# Changelog\n\n## 1.2.0 (2027-01-01)\n") == "0 "
    assert (
        run("v1.2.1", "## 1.2.0 (2027-01-01)\n") == "1 the tag is v1.2.1, pyproject.toml has 1.2.0"
    )
    assert run("v1.2.0", "## Unreleased\n").startswith("1 CHANGELOG.md has no line")


def test_make_dist_builds_and_checks() -> None:
    shown = subprocess.run(
        ["make", "-n", "dist"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert "hatchling build -d dist" in shown
    assert "twine check --strict dist/*" in shown
