"""How users come to clusters of their own: a kubeconfig, a checkout, a process; and what must have come of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path

import yaml

from meshproof.claims.required import FLOOR
from meshproof.clients.kubernetes.client import Json
from meshproof.mesh.access import ClusterAccess
from meshproof.providers.lab.build.images import APP, CLIENT

ROOT = Path(__file__).resolve().parents[2]

IMAGES = (f"--client-image={CLIENT}", f"--app-image={APP}")
"""Without these, probes run from the image of the mesh's own proxies."""
WITHHELD = {"TRUST-06", "GATEWAYS-04", *(code for code in FLOOR if code.startswith("FAILOVER-"))}
"""Claims that a user must allow."""


def plain_kubeconfig(folder: Path, access: ClusterAccess, user: Json) -> Path:
    """A kubeconfig of one's own, whose context is not called as the cluster is; only the CA is the lab's."""
    entry = yaml.safe_load(access.kubeconfig.read_text())["clusters"][0]
    name = f"arn:{access.name}"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": entry["cluster"]}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
    }
    path = folder / f"{access.name}.kubeconfig"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(document))
    return path


def exec_plugin(folder: Path, token: str) -> Json:
    """A user whose token comes from a program, as clouds have it."""
    version = "client.authentication.k8s.io/v1"
    plugin = folder / "login"
    plugin.touch(mode=0o700)
    made = {"kind": "ExecCredential", "apiVersion": version, "status": {"token": token}}
    plugin.write_text(f"#!/bin/sh\necho '{json.dumps(made)}'\n")
    return {"exec": {"apiVersion": version, "command": str(plugin), "interactiveMode": "Never"}}


def project(folder: Path) -> Path:
    """What a user has checked out, as far as a run reads it."""
    for name in ("fixtures", "suites"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("conftest.py", "pytest.ini"):
        shutil.copy2(ROOT / name, folder / name)
    return folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A checkout of a user's, who knows the clusters by a kubeconfig each."""

    folder: Path
    environment: dict[str, str]

    def run(self, *argv: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", *argv]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=timeout_s
        )

    def pytest(self, *options: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        return self.run("pytest", "-p", "no:cacheprovider", *options, timeout_s=timeout_s)


def must_be_a_full_verdict(verdict: Json, topology: str, *, half: Set[str] = frozenset()) -> None:
    """Every claim that applies was proven, but for those that nobody allowed; of `half` only the second half."""
    claims = verdict["topologies"][topology]["claims"]
    results = {code: row["result"] for code, row in claims.items()}
    elsewhere = {code for code, result in results.items() if result == "NOT_APPLICABLE"}
    assert {code for code, result in results.items() if result == "SKIPPED"} == (WITHHELD - elsewhere) | half
    assert set(results.values()) == {"SUCCEEDED", "SKIPPED", "NOT_APPLICABLE"}
    assert set(results) == set(FLOOR)
    assert verdict["go"] is True
    assert verdict["missing"] == []
    assert verdict["provider"] == "kubeconfig"
    for code in WITHHELD - elsewhere:
        assert "on clusters that meshproof did not create" in claims[code]["reason"] or code.startswith("FAILOVER")
        assert "repair: --allow-" in claims[code]["reason"]
    requests = verdict["api_requests"]
    assert requests["total"] == sum(requests["clusters"].values()) == sum(requests["verbs"].values())
    assert set(requests["clusters"]) == {"east", "west"}
