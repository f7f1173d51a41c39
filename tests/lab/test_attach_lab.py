"""A run on clusters of others: through a plain kubeconfig, with no more rights than it says it needs, and no trace."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from meshproof.clients.kube import Json, Kube
from meshproof.install.attach import PROBE_NAMESPACES
from meshproof.install.mesh import install_mesh, uninstall_mesh
from meshproof.install.removal import remove_these_namespaces
from meshproof.mesh import Cluster, Mesh
from meshproof.parallel import together
from meshproof.progress import Narrator
from meshproof.providers.lab.images import APP, CLIENT
from meshproof.providers.lab.lab import Lab
from meshproof.report.floor import FLOOR
from meshproof.rights import FOR_SECRETS, NEEDED
from meshproof.topology import load_topology

from .objects import differences, everything
from .test_install_lab import TOPOLOGY

pytestmark = pytest.mark.lab

ROOT = Path(__file__).resolve().parents[2]
VISITOR = "visitor"
NAMESPACE = "default"

WITHHELD = {"TRUST-06", "GATEWAYS-04", *(code for code in FLOOR if code.startswith("FAILOVER-"))}
"""Claims that a user must allow."""
HALF = {"CONTROL-01"}
"""Of it only the second half can be seen on a mesh that is there."""


@pytest.fixture(scope="module")
def mesh(lab: Lab, tmp_path_factory: pytest.TempPathFactory, narrator: Narrator) -> Iterator[Mesh]:
    """A mesh as others have one: without anything of meshproof's on it."""
    path = tmp_path_factory.mktemp("topology") / "east-west.yaml"
    path.write_text(TOPOLOGY)
    topology = load_topology(str(path))
    lab.connect(topology)
    made = Mesh.of(topology, lab.clusters, lab.toolbox)
    try:
        install_mesh(made, narrator)
        together(lambda c: remove_these_namespaces(c.kube, PROBE_NAMESPACES, aborted=threading.Event()), made.clusters)
        yield made
    finally:
        uninstall_mesh(made, narrator)


def visitor(name: str) -> tuple[Json, ...]:
    """An account with exactly the rights that docs/attach.md asks for."""
    rbac = "rbac.authorization.k8s.io"
    return (
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": NAMESPACE}},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": name},
            "rules": [rule.as_rbac() for rule in (*NEEDED, *FOR_SECRETS)],
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}],
        },
    )


@pytest.fixture
def tokens(mesh: Mesh) -> Iterator[dict[Cluster, str]]:
    """The visitor's token in each cluster."""
    manifests = visitor(VISITOR)

    def make(cluster: Cluster) -> str:
        for manifest in manifests:
            cluster.kube.apply(manifest)
        path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{VISITOR}/token"
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
        return str(cluster.kube.post(path, asked)["status"]["token"])

    yield dict(zip(mesh.clusters, together(make, mesh.clusters), strict=True))
    for cluster in mesh.clusters:
        for manifest in manifests:
            meta = manifest["metadata"]
            cluster.kube.delete(manifest["kind"], meta["name"], meta.get("namespace"))


def plain_kubeconfig(folder: Path, cluster: Cluster, user: Json) -> Path:
    """A kubeconfig of one's own, whose context is not called as the cluster is; only the CA is the lab's."""
    entry = yaml.safe_load(cluster.access.kubeconfig.read_text())["clusters"][0]
    name = f"arn:{cluster}"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": entry["cluster"]}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
    }
    path = folder / f"{cluster}.kubeconfig"
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


def namespaces(kube: Kube) -> set[str]:
    return {item["metadata"]["name"] for item in kube.list("Namespace")}


def test_a_run_on_clusters_of_others_leaves_no_trace(
    mesh: Mesh, tokens: dict[Cluster, str], tmp_path: Path, narrator: Narrator
) -> None:
    east, west = mesh.clusters
    files = (
        plain_kubeconfig(tmp_path, east, {"token": tokens[east]}),
        plain_kubeconfig(tmp_path, west, exec_plugin(tmp_path, tokens[west])),
    )
    before = together(lambda cluster: everything(cluster.kube), mesh.clusters)
    assert all(namespaces(cluster.kube).isdisjoint(PROBE_NAMESPACES) for cluster in mesh.clusters)
    argv = [
        *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider"),
        "--provider=kubeconfig",
        "--mesh=existing",
        f"--topology={mesh.topology.source}",
        "--cluster1-context=arn:east",
        f"--client-image={CLIENT}",
        f"--app-image={APP}",
    ]
    environment = {**os.environ, "KUBECONFIG": os.pathsep.join(map(str, files)), "CTX_CLUSTER2": "arn:west"}
    here = project(tmp_path / "project")
    with narrator.step("pytest --provider=kubeconfig in a process of its own"):
        done = subprocess.run(argv, cwd=here, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    after = together(lambda cluster: everything(cluster.kube), mesh.clusters)
    for cluster, one, other in zip(mesh.clusters, before, after, strict=True):
        assert len(one) > 300, "a whole cluster was compared"
        assert differences(one, other) == [], f"{cluster}\n{done.stdout}"
    verdict = yaml.safe_load((here / "reports" / "verdict.yaml").read_text())
    must_be_a_full_verdict(verdict, mesh)
    must_hold_no_secrets(here / "reports", tokens)


def test_whoever_writes_to_a_cluster_is_noticed(mesh: Mesh) -> None:
    """The control: the same comparison sees even what was taken back at once."""
    kube = mesh.primaries[0].kube
    before = everything(kube)
    for value in ("x", None):
        kube.merge_patch("ConfigMap", "istio", {"metadata": {"annotations": {"x": value}}}, "istio-system")
    for kept in (9, 10):  # as it is by default
        kube.merge_patch("Deployment", "istiod", {"spec": {"revisionHistoryLimit": kept}}, "istio-system")
    assert differences(before, everything(kube)) == [
        "wrote to configmaps istio-system istio: resourceVersion",
        "wrote to deployments istio-system istiod: metadata, written",
    ]


def must_be_a_full_verdict(verdict: Json, mesh: Mesh) -> None:
    """Every claim that applies was proven, but for those that nobody allowed."""
    claims = verdict["topologies"][mesh.topology.name]["claims"]
    results = {code: row["result"] for code, row in claims.items()}
    elsewhere = {code for code, result in results.items() if result == "NOT_APPLICABLE"}
    assert {code for code, result in results.items() if result == "SKIPPED"} == (WITHHELD - elsewhere) | HALF
    assert set(results.values()) == {"SUCCEEDED", "SKIPPED", "NOT_APPLICABLE"}
    assert set(results) == set(FLOOR)
    assert verdict["go"] is True
    assert verdict["missing"] == []
    assert verdict["provider"] == "kubeconfig"
    assert verdict["istio"] == mesh.toolbox.istio_version
    for code in WITHHELD - elsewhere:
        assert "on clusters that meshproof did not make" in claims[code]["reason"] or code.startswith("FAILOVER")
        assert "repair: --allow-" in claims[code]["reason"]
    requests = verdict["api_requests"]
    assert requests["total"] == sum(requests["clusters"].values()) == sum(requests["verbs"].values())
    assert set(requests["clusters"]) == {"east", "west"}


def must_hold_no_secrets(reports: Path, tokens: dict[Cluster, str]) -> None:
    written = [path.read_text(errors="replace") for path in reports.rglob("*") if path.is_file()]
    assert len(written) > 40
    for text in written:
        assert "PRIVATE KEY" not in text
        assert not any(token in text for token in tokens.values())
