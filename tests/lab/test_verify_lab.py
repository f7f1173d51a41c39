"""`meshproof verify` as somebody on call has it: the wheel in an empty environment, no root, two contexts."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from meshproof.core.concurrency import together
from meshproof.core.progress import Narrator
from meshproof.install.own_namespaces import PROBE_NAMESPACES
from meshproof.mesh.handles import Cluster, Mesh
from tests.wheel import build_wheel

from .objects import differences, everything
from .test_attach_lab import HALF, mesh, namespaces, tokens
from .visits import WITHHELD, plain_kubeconfig

pytestmark = pytest.mark.lab

__all__ = ["mesh", "tokens"]

NOBODY = 65534
"""User and group; neither owns anything."""
VERIFY_S = 90.0
"""From the command to the verdict. On two idle cores it takes 54 s, with other labs on them 64 s; the download of all
packages before it depends on the package index (54 s)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody without root, in a folder of their own."""

    home: Path

    def run(self, *argv: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
        """Of our environment there is only what pip needs to find packages."""
        pip = {key: value for key, value in os.environ.items() if key.startswith("PIP_") or "proxy" in key.lower()}
        environment = {"HOME": str(self.home), "PATH": "/usr/bin:/bin", **pip}
        as_nobody = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs"]
        command = [*as_nobody, *argv]
        return subprocess.run(
            command, cwd=self.home, env=environment, capture_output=True, text=True, timeout=timeout_s
        )


@pytest.fixture
def person(mesh: Mesh, tokens: dict[Cluster, str]) -> Iterator[Person]:
    """With the wheel, and a kubeconfig whose tokens have the rights of docs/attach.md, and no others."""
    with tempfile.TemporaryDirectory(prefix="meshproof-person-") as folder:
        home = Path(folder)
        (home / "build").mkdir()
        shutil.copy(build_wheel(home / "build"), home)
        shutil.rmtree(home / "build")
        merged: dict[str, object] = {"apiVersion": "v1", "kind": "Config"}
        for key in ("clusters", "users", "contexts"):
            merged[key] = [
                entry
                for cluster in mesh.clusters
                for entry in yaml.safe_load(
                    plain_kubeconfig(home, cluster.access, {"token": tokens[cluster]}).read_text()
                )[key]
            ]
        (home / ".kube").mkdir(mode=0o700)
        (home / ".kube" / "config").write_text(yaml.safe_dump(merged))
        for path in (home, *home.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        yield Person(home=home)


def python_for_everybody() -> str:
    """An interpreter of 3.11 or newer with venv, outside of folders that only their owner may enter."""
    check = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))"
    for candidate in map(Path, (getattr(sys, "_base_executable", sys.executable), "/usr/bin/python3")):
        if not candidate.exists() or not all(parent.stat().st_mode & stat.S_IXOTH for parent in candidate.parents):
            continue
        if subprocess.run([candidate, "-c", check], capture_output=True, timeout=30).returncode == 0:
            return str(candidate)
    pytest.skip("no Python of version 3.11 or newer that other users may run")


def must_succeed(done: subprocess.CompletedProcess[str], codes: Sequence[int] = (0,)) -> str:
    assert done.returncode in codes, done.stdout + done.stderr
    return done.stdout


def test_from_an_empty_environment_to_the_verdict(mesh: Mesh, person: Person, narrator: Narrator) -> None:
    """No checkout, no topology, no image; afterwards every object is as before."""
    python = python_for_everybody()
    before = together(lambda cluster: everything(cluster.kube), mesh.clusters)
    begin = time.monotonic()
    with narrator.step("the wheel in an empty environment"):
        must_succeed(person.run(python, "-m", "venv", "tool", timeout_s=60))
        (wheel,) = person.home.glob("*.whl")
        must_succeed(person.run("tool/bin/python", "-m", "pip", "install", "--quiet", str(wheel), timeout_s=300))
    installed = time.monotonic()
    with narrator.step("meshproof verify"):
        done = person.run("tool/bin/meshproof", "verify", "--context=arn:west", "--context=arn:east", timeout_s=300)
    end = time.monotonic()
    printed = must_succeed(done)
    narrator.say(f"verdict after {end - begin:.1f} s, {end - installed:.1f} s of them for verify")
    lines = printed.splitlines()
    assert [line.split()[0] for line in lines[:5]] == ["mesh", "west", "east", "gateways", "remote"], printed
    assert "the mesh's own proxy image, since it has a shell" in printed
    assert lines[-1].startswith("GO: "), printed
    verdict = yaml.safe_load((person.home / "reports" / "verdict.yaml").read_text())
    claims = verdict["topologies"]["mesh"]["claims"]
    skipped = {code for code, row in claims.items() if row["result"] == "SKIPPED"}
    assert (verdict["outcome"], verdict["missing"], verdict["causes"]) == ("GO", [], [])
    no_istioctl = {"CONTROL-06"}
    assert skipped == {code for code in WITHHELD if code in claims} | HALF | no_istioctl
    assert {code.partition("-")[0] for code in claims} == {"TRUST", "DISCOVERY", "GATEWAYS", "CONTROL", "TRAFFIC"}
    after = together(lambda cluster: everything(cluster.kube), mesh.clusters)
    for cluster, one, other in zip(mesh.clusters, before, after, strict=True):
        assert differences(one, other) == [], cluster
        assert namespaces(cluster.kube).isdisjoint(PROBE_NAMESPACES)
    with narrator.step("meshproof verify without istiod"):
        must_name_one_cause(mesh, person)
    assert end - installed < VERIFY_S


def must_name_one_cause(mesh: Mesh, person: Person) -> None:
    """What all claims stand on is gone: it is said once, soon, and is no GO."""
    primary = mesh.primaries[0]
    primary.kube.merge_patch("Deployment", "istiod", {"spec": {"replicas": 0}}, "istio-system")
    try:
        done = person.run("tool/bin/meshproof", "verify", "--context=arn:west", "--context=arn:east", timeout_s=120)
    finally:
        primary.kube.merge_patch("Deployment", "istiod", {"spec": {"replicas": 1}}, "istio-system")
    lines = must_succeed(done, codes=(1,)).splitlines()
    (head,) = (line for line in lines if "for one cause" in line)
    assert head.startswith("BROKEN  4"), "more than forty claims"
    assert sum("istiod of east: not within 10 s" in line for line in lines) == 1, done.stdout
    assert lines[-1].startswith("NOT KNOWN: "), done.stdout
    assert len(lines) < 90, done.stdout
    assert max(map(len, lines)) < 200, done.stdout
