"""How results are rendered: what is pinned, and, where Allure 3 is installed, what comes out and what the gate says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Iterable
from pathlib import Path

import pytest

from meshproof.claims.claim import Family
from meshproof.claims.required import FLOOR
from meshproof.core.topology import available

TOP = Path(__file__).resolve().parents[1]
RENDERER = TOP / "renderer"
CONFIG = (RENDERER / "allurerc.mjs").read_text()
ALLURE = RENDERER / "node_modules" / ".bin" / "allure"

installed = pytest.mark.skipif(
    not ALLURE.exists() or shutil.which("node") is None, reason="Allure 3 is not installed (tox -e report)"
)


def test_the_lock_has_a_hash_for_each_package_and_names_no_registry() -> None:
    text = (RENDERER / "package-lock.json").read_text()
    asked = json.loads((RENDERER / "package.json").read_text())["dependencies"]
    lock = json.loads(text)["packages"]
    packages = {name: package for name, package in lock.items() if name}
    assert len(packages) > 50
    assert all(package["integrity"].startswith("sha512-") for package in packages.values())
    assert '"resolved"' not in text
    assert lock[""]["dependencies"] == asked
    for name, version in asked.items():
        assert packages[f"node_modules/{name}"]["version"] == version


def test_nothing_of_a_package_runs_when_it_is_installed() -> None:
    assert {"ignore-scripts=true", "omit-lockfile-registry-resolved=true"} <= set(
        (RENDERER / ".npmrc").read_text().splitlines()
    )


def test_every_family_is_a_category() -> None:
    assert re.findall(r"^  ([A-Z]+): \"", CONFIG, re.MULTILINE) == list(Family)


def results(folder: Path, topologies: Iterable[str], codes: Iterable[str] = FLOOR, bad: str = "") -> Path:
    """What a run would have given to Allure."""
    folder.mkdir(parents=True)
    for topology in topologies:
        for code in codes:
            labels = {"epic": topology, "feature": code.partition("-")[0].lower(), "story": code}
            result = {
                "uuid": str(uuid.uuid4()),
                "historyId": f"{code} {topology}",
                "testCaseId": code,
                "fullName": code,
                "name": code,
                "status": "failed" if code == bad else "passed",
                "statusDetails": {"message": f"{code} it holds: not so"} if code == bad else {},
                "start": 1_700_000_000_000,
                "stop": 1_700_000_001_000,
                "labels": [{"name": name, "value": value} for name, value in labels.items()],
                "parameters": [{"name": "topology", "value": repr(topology)}],
            }
            (folder / f"{result['uuid']}-result.json").write_text(json.dumps(result))
    return folder


def allure(tmp_path: Path, command: str, *folders: Path) -> subprocess.CompletedProcess[str]:
    """In a copy of what the renderer reads, so that reports/ stays as it is."""
    top = tmp_path / "top"
    if not top.exists():
        top.mkdir()
        for name in ("docs", "topologies", "renderer"):
            (top / name).symlink_to(TOP / name)
    argv = [str(ALLURE), command, "--config", "renderer/allurerc.mjs", *map(str, folders)]
    environment = {**os.environ, "NO_COLOR": "1"}
    environment.pop("FORCE_COLOR", None)
    return subprocess.run(argv, cwd=top, env=environment, capture_output=True, text=True, timeout=120)


@installed
def test_topologies_are_environments_and_no_retries_also_when_results_come_from_several_runs(tmp_path: Path) -> None:
    folders = [results(tmp_path / name, [name]) for name in available()]
    for times in (1, 2):
        done = allure(tmp_path, "generate", *folders)
        assert done.returncode == 0, done.stderr
        history = (tmp_path / "top" / "reports" / "history" / "allure.jsonl").read_text().splitlines()
        assert len(history) == times
    gate = allure(tmp_path, "quality-gate", *folders)
    assert gate.returncode == 0, gate.stderr
    told = json.loads(history[-1])["testResults"]
    assert len(told) == len(FLOOR) * len(available())
    assert len({each["environment"] for each in told.values()}) == len(available())
    assert len((tmp_path / "top" / "reports" / "history" / "allure.jsonl").read_text().splitlines()) == 2
    page = (tmp_path / "top" / "reports" / "allure-report" / "index.html").read_text()
    assert not re.search(r'<(?:script|link|img)[^>]+(?:src|href)="?https?:', page), "it fetches something when opened"


@installed
def test_the_gate_says_what_is_missing(tmp_path: Path) -> None:
    names = available()
    gate = allure(tmp_path, "quality-gate", results(tmp_path / "three", names[:-1], bad="TRUST-03"))
    assert gate.returncode == 1
    told = gate.stderr
    assert (
        f"The total number of tests {len(FLOOR) * 3} is less than the expected threshold value {len(FLOOR) * 4}" in told
    )
    assert "The number of failed tests 3 exceeds the allowed threshold value 0" in told
    assert re.search(r'The following environments were not tested: "PR samenet"; expected all of: "MP multinet"', told)
