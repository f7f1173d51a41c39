"""What the workflows call is there, and covers all topologies. They cannot be run here: this much can be known."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from configparser import ConfigParser
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from meshproof.core.topology import available

TOP = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((TOP / ".github" / "workflows").glob("*.yaml"))
ACTIONS = sorted((TOP / ".github" / "actions").glob("*/action.yml"))

_TOX = re.compile(r'^(?:.*?\btox|sudo .*"\$\(command -v tox\)") run -e (\S+)', re.MULTILINE)


def jobs() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in WORKFLOWS:
        for name, job in yaml.safe_load(path.read_text())["jobs"].items():
            yield f"{path.stem}: {name}", job


JOBS = dict(jobs())


def spread(text: str) -> Iterator[str]:
    """What tox makes of `lab-{a,b}`."""
    parts = re.split(r"\{([^{}]*)\}", text)
    yield from ("".join(choice) for choice in product(*(part.split(",") for part in parts)))


def environments() -> set[str]:
    tox = ConfigParser(interpolation=None)
    tox.read(TOP / "tox.ini")
    sections = (name.removeprefix("testenv:") for name in tox.sections() if name.startswith("testenv:"))
    listed = re.split(r"[,\s]+(?![^{]*\})", tox["tox"]["env_list"])
    return {name for text in (*sections, *listed) for name in spread(text)}


def variants(job: dict[str, Any]) -> list[dict[str, str]]:
    """The values of a job's matrix, one mapping for each time that it runs."""
    matrix = dict(job.get("strategy", {}).get("matrix", {}))
    included = matrix.pop("include", [])
    crossed = [dict(zip(matrix, values, strict=True)) for values in product(*matrix.values())]
    return [*included, *crossed] if matrix else included or [{}]


def calls(job: dict[str, Any]) -> list[str]:
    """The tox environments that a job calls, over its whole matrix."""
    scripts = "\n".join(step["run"] for step in job["steps"] if "run" in step)
    return [name for given in variants(job) for name in _TOX.findall(filled(scripts, given))]


def filled(text: str, given: dict[str, str]) -> str:
    for key, value in given.items():
        text = text.replace(f"${{{{ matrix.{key} }}}}", value)
    return text


def test_there_are_workflows_and_they_call_tox() -> None:
    assert [path.stem for path in WORKFLOWS] == ["nightly", "pull-request"]
    called = {name for job in JOBS.values() for name in calls(job)}
    assert called <= environments()
    assert {"lint", "types", "py311", "py312", "py313", "sensitivity", "specificity"} <= called
    assert {"integration", "report-gate"} <= called


def test_every_environment_of_a_topology_is_there() -> None:
    assert {name for name in environments() if re.match(r"lab-(multi|primary)", name)} == {
        f"lab-{topology}" for topology in available()
    }
    text = (TOP / "tox.ini").read_text()
    for name in available():
        assert f"    {name}: pytest --provider=lab --topology={name} {{posargs}}" in text


def test_nightly_proves_every_topology() -> None:
    job = JOBS["nightly: topology"]
    assert job["strategy"]["matrix"]["topology"] == list(available())
    assert calls(job) == [f"lab-{name}" for name in available()]


def test_nightly_upgrades_every_topology() -> None:
    job = JOBS["nightly: upgrade"]
    assert job["strategy"]["matrix"]["topology"] == list(available())
    assert calls(job) == [f"upgrade-{name}" for name in available()]
    text = (TOP / "tox.ini").read_text()
    for name in available():
        assert f"    {name}: pytest --provider=lab --topology={name} {{[upgrade]way}} {{posargs}}" in text


@pytest.mark.parametrize("name", JOBS)
def test_a_job_ends_in_time_and_calls_tox_once_at_most(name: str) -> None:
    job = JOBS[name]
    assert 0 < job["timeout-minutes"] <= 60
    assert len(calls(job)) <= len(variants(job))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_only_read_and_does_not_run_twice_at_once(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["group"]
    assert not any("permissions" in job for job in workflow["jobs"].values())


@pytest.mark.parametrize("path", [*WORKFLOWS, *ACTIONS], ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_actions_are_ours_or_pinned_by_full_version(path: Path) -> None:
    for used in re.findall(r"uses: (\S+)", path.read_text()):
        if used.startswith("./"):
            assert (TOP / used / "action.yml").is_file(), used
        else:
            assert re.search(r"@v\d+\.\d+\.\d+$", used), used


def test_the_cache_is_keyed_by_files_that_are_there() -> None:
    text = (TOP / ".github/actions/lab/action.yml").read_text()
    named = re.findall(r"'(src/[^']*)'", text)
    assert len(named) >= 4
    for pattern in named:
        assert any(path.is_file() for path in TOP.glob(pattern.replace("/**", "/**/*"))), pattern


def test_actionlint_finds_nothing() -> None:
    program = shutil.which("actionlint")
    if program is None:
        pytest.skip("actionlint is not on PATH (go install github.com/rhysd/actionlint/cmd/actionlint@latest)")
    done = subprocess.run([program], cwd=TOP, capture_output=True, text=True, timeout=120)
    if done.returncode:
        pytest.fail(done.stdout + done.stderr, pytrace=False)
