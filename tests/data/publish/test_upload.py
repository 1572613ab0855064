"""Publishing over HTTP to a Hub on loopback, with the real client, and loading it back."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sharegptvideo import read_rows
from sharegptvideo.cli import app
from sharegptvideo.data.publish import publish as publish_any
from sharegptvideo.data.publish.cards import changelog_entries
from sharegptvideo.data.publish.facts import templates_folder
from sharegptvideo.errors import UserError
from tests.support.fresh_python import run_python
from tests.support.hub_server import HubServer

# The small release has a few clips on both sides.
publish = partial(publish_any, cards="package", allow=["leak-name"])

pytestmark = pytest.mark.filterwarnings("ignore::sharegptvideo.data.sources.DataWarning")

REPO = "tester/mine"


@pytest.fixture(scope="module")
def tree(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tree") / "out"
    publish(shared_data / "release", REPO, dry_run=out, tag="v1")
    return out


def contents(folder: Path) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def on_hub(hub: HubServer) -> dict[str, bytes]:
    return {name: data for name, data in hub.files(REPO).items() if name != ".gitattributes"}


def test_what_is_on_the_hub_is_the_dry_run(
    hub_server: HubServer, tree: Path, shared_data: Path
) -> None:
    done = publish(shared_data / "release", REPO, tag="v1", private=True)
    assert on_hub(hub_server) == contents(tree)
    # One commit after the Hub's own first one, and the tag on it.
    commits = hub_server.commits(REPO)
    assert len(commits) == 2
    assert done.uploaded is not None
    assert done.uploaded.commit == commits[0].oid
    assert hub_server.repo(REPO).tags == {"v1": commits[0].oid}
    assert hub_server.repo(REPO).private
    assert done.files == len(contents(tree))


def test_loads_back_bit_for_bit_without_this_package(
    hub_server: HubServer, shared_data: Path, tmp_path: Path
) -> None:
    names = ["qa", "sft", "preferences", "webvid_qa"]
    publish(shared_data / "release", REPO, configs=names, private=True, tag="v1")
    first = hub_server.commits(REPO)[0].oid
    publish(shared_data / "release", REPO, configs=["qa"], tag="v2", changelog="Questions alone.")
    code = (
        "import datasets, json, sys\n"
        "datasets.disable_progress_bars()\n"
        f"for name in {names}:\n"
        f"    for revision in ('v1', {first!r}):\n"
        f"        found = datasets.load_dataset({REPO!r}, name, revision=revision)\n"
        f"        stream = datasets.load_dataset({REPO!r}, name, revision='v1', streaming=True)\n"
        "        assert set(found) == set(stream)\n"
        "        rows = {split: list(found[split]) for split in found}\n"
        "        assert {split: list(stream[split]) for split in found} == rows\n"
        "    print(json.dumps([name, rows]))\n"
        f"assert datasets.get_dataset_config_names({REPO!r}) == ['qa']\n"
        "assert 'sharegptvideo' not in sys.modules\n"
    )
    environment = {**hub_server.environment(), "HF_HOME": str(tmp_path / "hf")}
    for line in run_python(code, tmp_path, **environment).splitlines():
        name, rows = json.loads(line)
        for split in rows:
            assert rows[split] == list(read_rows(name, shared_data / "release", split))


def test_done_twice_changes_nothing(hub_server: HubServer, tree: Path) -> None:
    publish(tree, REPO, tag="v1")
    before = hub_server.commits(REPO)
    hub_server.forget()
    done = publish(tree, REPO, tag="v1")
    assert done.uploaded is not None
    assert not done.uploaded.changed
    assert hub_server.commits(REPO) == before
    assert not [path for method, path in hub_server.requests if "/upload/" in path]


def test_next_version_replaces_what_was_there(hub_server: HubServer, tree: Path) -> None:
    publish(tree, REPO, tag="v1", changelog="All of it.")
    kept = hub_server.files(REPO) | {"LICENSE": b"text", "docs/picture.png": b"picture"}
    hub_server.add_repo(REPO, kept)
    done = publish(tree, REPO, configs=["qa"], tag="v2", changelog="Questions alone.")
    names = set(on_hub(hub_server))
    assert names == {
        "README.md",
        "croissant.json",
        "qa/README.md",
        "qa/train-00000-of-00001.parquet",
        "LICENSE",
        "docs/picture.png",
    }
    assert done.uploaded is not None
    assert "captions/README.md" in done.uploaded.deleted
    assert "eval.yaml" in done.uploaded.deleted
    page = hub_server.files(REPO)["README.md"].decode()
    assert changelog_entries(page) == ["- v2: Questions alone.", "- v1: All of it."]
    assert "captions/README.md" in hub_server.files(REPO, "v1")


def test_hub_out_of_order(hub_server: HubServer, tree: Path) -> None:
    publish(tree, REPO, configs=["qa"], tag="v1")
    before = on_hub(hub_server)
    hub_server.faults.add(match="/commit/", kind="status", status=500, times=100)
    with pytest.raises(
        UserError, match=r"tester/mine: the Hub answered 500 .*; run the same command"
    ):
        publish(tree, REPO, tag="v2", changelog="All of it.")
    assert on_hub(hub_server) == before
    assert "v2" not in hub_server.repo(REPO).tags
    # What was uploaded lies there by its content; the second run sends none of it again.
    hub_server.forget()
    publish(tree, REPO, tag="v2", changelog="All of it.")
    assert len(hub_server.commits(REPO)) == 3
    assert not [path for method, path in hub_server.requests if "/upload/" in path]
    assert set(contents(tree)) == set(on_hub(hub_server))


def test_upload_cut_short(hub_server: HubServer, tree: Path) -> None:
    hub_server.faults.add(match=r"/upload/", kind="cut", after=1000)
    hub_server.faults.add(match=r"objects/batch", kind="status", status=400, skip=1)
    with pytest.raises(UserError, match=r"nothing was published; run the same command"):
        publish(tree, REPO, configs=["qa", "sft"])
    assert on_hub(hub_server) == {}
    assert len(hub_server.objects) == 1  # cut, sent again, and kept
    hub_server.forget()
    publish(tree, REPO, configs=["qa", "sft"])
    sent = {path for method, path in hub_server.requests if method == "PUT"}
    assert len(sent) == 1
    assert "sft/train-00000-of-00001.parquet" in on_hub(hub_server)
    assert len(hub_server.commits(REPO)) == 2


def test_answer_to_the_commit_is_lost(hub_server: HubServer, tree: Path) -> None:
    hub_server.faults.add(match="/commit/", kind="lost", method="POST")
    with pytest.raises(UserError, match="it goes on, or finds that all is done"):
        publish(tree, REPO, configs=["qa"], tag="v1", changelog="Questions.")
    done = publish(tree, REPO, configs=["qa"], tag="v1", changelog="Questions.")
    assert done.uploaded is not None
    assert not done.uploaded.changed
    commits = hub_server.commits(REPO)
    assert len(commits) == 2
    assert hub_server.repo(REPO).tags == {"v1": commits[0].oid}


@pytest.mark.usefixtures("hub_server")
def test_nothing_is_left_behind(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHAREGPTVIDEO_CACHE", str(tmp_path / "cache"))
    publish(tree, REPO, configs=["qa"])
    assert list((tmp_path / "cache" / "publish").iterdir()) == []


def test_somebody_else_commits_meanwhile(hub_server: HubServer, tree: Path) -> None:
    publish(tree, REPO, configs=["qa"])

    def meddle(_done: int, _total: int, what: str) -> None:
        if what == "files uploaded" and "mine.txt" not in hub_server.files(REPO):
            hub_server.add_repo(REPO, hub_server.files(REPO) | {"mine.txt": b"x"})

    with pytest.raises(UserError, match="tester/mine: the Hub answered 412"):
        publish(tree, REPO, progress=meddle)
    assert "captions/README.md" not in hub_server.files(REPO)


def test_public_repository_is_not_made_to_look_private(hub_server: HubServer, tree: Path) -> None:
    publish(tree, REPO, configs=["qa"])
    before = hub_server.commits(REPO)
    with pytest.raises(UserError, match="is there already, and public"):
        publish(tree, REPO, private=True)
    assert hub_server.commits(REPO) == before


def test_tag_of_another_version(hub_server: HubServer, tree: Path) -> None:
    publish(tree, REPO, configs=["qa"], tag="v1")
    publish(tree, REPO, tag="v2")
    before = hub_server.commits(REPO)
    with pytest.raises(UserError, match=r"the tag 'v1' names another version \(tags: v1, v2\)"):
        publish(tree, REPO, configs=["qa"], tag="v1")
    assert hub_server.commits(REPO) == before


def test_no_token(hub_server: HubServer, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UserError, match="publishing needs a token of the Hub; set HF_TOKEN"):
        publish(tree, REPO)
    assert hub_server.requests == []


def test_folder_of_somebody_else(hub_server: HubServer, tree: Path) -> None:
    with pytest.raises(UserError, match=r"stranger/theirs: .*403"):
        publish(tree, "stranger/theirs")
    assert ("dataset", "stranger/theirs") not in hub_server.repos


def test_broken_rows_reach_no_hub(hub_server: HubServer, tree: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(tree, bad)
    (bad / "sft" / "train-00000-of-00001.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(UserError, match="nothing was published"):
        publish(bad, REPO)
    assert hub_server.repos == {}


def command(*arguments: str) -> tuple[int, str, str]:
    known = ["--allow", "leak-name", "--cards", "package"]
    result = CliRunner().invoke(app, ["data", "publish", *known, *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_command(hub_server: HubServer, tree: Path) -> None:
    code, out, err = command(str(tree), "--repo-id", REPO, "--config", "qa", "--json", "--private")
    figures: dict[str, Any] = json.loads(out)
    assert code == 0, err
    assert figures["qa"] == {"train": 15}
    assert figures["files"] == 4
    assert figures["commit"] == hub_server.commits(REPO)[0].oid
    assert figures["url"] == f"{hub_server.url}/datasets/{REPO}"
    assert f'datasets.load_dataset("{REPO}", "qa")' in err
    assert hub_server.repo(REPO).private


def test_command_dry_run_sends_nothing(hub_server: HubServer, tree: Path, tmp_path: Path) -> None:
    code, out, err = command(str(tree), "--repo-id", REPO, "--dry-run", str(tmp_path / "out"))
    assert code == 0, err
    assert hub_server.requests == []
    assert "captions.train" in out
    assert contents(tmp_path / "out").keys() == contents(tree).keys()


def test_command_on_a_full_disk(tree: Path, tmp_path: Path) -> None:
    # A limit on the size of a file is refused where a full disk would be: in write().
    code = (
        "import resource, signal, sys\n"
        "from sharegptvideo.cli import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        f"sys.argv[1:] = ['data', 'publish', {str(tree)!r}, '--repo-id', 'a/b', '--dry-run', 'o', "
        "'--allow', 'leak-name']\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    last = done.stderr.splitlines()[-1]
    assert (done.returncode, last.endswith(" cannot be written (File too large)")) == (1, True)
    assert last.startswith("error: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "cause"),
    [
        (["--config", "qaa"], 2, "did you mean qa?"),
        (["--config", "ssv2_qa"], 2, "nothing of 'ssv2_qa' (it has captions, "),
        (["--changelog", "two\nlines"], 2, "one line that says what is new"),
        (["--cards", "nowhere"], 2, "nowhere: no such folder"),
        (["--license", "mit"], 2, "--license is for neutral cards; those here name the licence"),
        (["--allow", "schema"], 2, "--allow schema: only equal-sides, reversed-scores, leak-name"),
        (["--allow", "leak-nam"], 2, "did you mean leak-name"),
        (["--against", "nowhere"], 2, "nowhere: no such folder"),
        (["--embed-media", "nowhere"], 2, "nowhere: no such folder"),
    ],
)
def test_command_with_a_mistake(
    arguments: list[str], code: int, cause: str, tree: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    found, _, err = command(str(tree), "--repo-id", REPO, "--dry-run", str(out), *arguments)
    assert found == code
    last = err.splitlines()[-1]
    assert last.startswith("error: ")
    assert cause in last
    assert not out.exists()


def test_guide_to_publishing(
    hub_server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands that it shows, one after the other, with the rows that it speaks of."""
    page = (Path(__file__).parents[3] / "docs" / "publishing.md").read_text("utf-8")
    shown = [line.split("  #")[0] for line in page.splitlines() if line.startswith("sharegpt")]
    assert len(shown) == 5
    hub_server.namespaces.add("alice")
    monkeypatch.chdir(tmp_path)
    rows = [
        {"id": f"c{n}", "video": f"v{n}", "prompt": "Describe.", "caption": f"It is {n}."}
        for n in range(3)
    ]
    Path("mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("my_cards").mkdir()
    template = (templates_folder() / "captions.md").read_text("utf-8")
    Path("my_cards", "captions.md").write_text(template)
    for line in shown:
        words = shlex.split(line)
        assert words[0] == "sharegptvideo"
        result = CliRunner().invoke(app, words[1:])
        assert result.exit_code == 0, (line, result.stderr)
    repo = "alice/my-captions"
    assert sorted(hub_server.repo(repo).tags) == ["v1.0", "v1.1"]
    assert hub_server.repo(repo).private
    page = hub_server.files(repo)["README.md"].decode()
    assert changelog_entries(page) == [
        "- v1.1: Captions of 40 clips corrected.",
        "- v1.0: first version",
    ]
