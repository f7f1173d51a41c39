"""The plans of our four topologies, and of three clusters: which steps there are, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from meshproof.core.model import Topology
from meshproof.core.topology import available, load_topology
from meshproof.install.executor import InstallStep, undo_of
from meshproof.install.plan import describe_plan, plan_for
from meshproof.mesh.access import ClusterAccess
from meshproof.mesh.handles import Mesh
from tests.install_fakes import TOOLBOX, fake_mesh, three_clusters


def plan_of(topology: Topology | str) -> tuple[InstallStep, ...]:
    return plan_for(fake_mesh(load_topology(topology) if isinstance(topology, str) else topology))


def before(plan: Sequence[InstallStep], name: str) -> set[str]:
    """All steps that must be done before a step, also indirectly."""
    needs = {step.name: step.needs for step in plan}
    found: set[str] = set()
    left = [*needs[name]]
    while left:
        found.add(left[-1])
        left += needs[left.pop()]
    return found


def steps_about(plan: Sequence[InstallStep], words: str) -> list[str]:
    return [step.name for step in plan if words in step.name]


@pytest.mark.parametrize("name", available())
def test_every_topology_plans(name: str) -> None:
    plan = plan_of(name)
    for cluster in ("cluster1", "cluster2"):
        for what in ("namespaces", "cacerts", "injection", "gateways", "application", "client"):
            assert f"{what} in {cluster}" in [step.name for step in plan]
        assert f"cacerts in {cluster}" in before(plan, f"gateways in {cluster}")
        assert f"injection in {cluster}" in before(plan, f"application in {cluster}")


def test_planning_contacts_nothing(tmp_path: Path) -> None:
    topology = load_topology("primary-remote-multinet")
    accesses = tuple(
        ClusterAccess(name=c.name, kubeconfig=tmp_path / "missing", context="none", server_for_peers="https://none")
        for c in topology.clusters
    )
    mesh = Mesh.of(topology, accesses, TOOLBOX)
    assert "gateways in cluster2" in describe_plan(plan_for(mesh))
    assert [cluster.kube.calls for cluster in mesh.clusters] == [0, 0]


def test_a_remote_waits_for_its_primary() -> None:
    plan = plan_of("primary-remote-multinet")
    pointer = "pointer to cluster1's istiod in cluster2"
    assert "gateway addresses in cluster1" in before(plan, pointer)
    assert "istiod in cluster1" not in before(plan, pointer)
    assert {"gateways in cluster1", "mesh configuration in cluster1", pointer} <= before(plan, "injection in cluster2")
    assert "injection in cluster2" in before(plan, "gateways in cluster2")


def test_the_remote_is_looked_at_before_its_primary_knows_it() -> None:
    plan = plan_of("primary-remote-samenet")
    assert steps_about(plan, "remote secret for") == ["remote secret for cluster2 in cluster1"]
    look = "injection before the remote secret in cluster2"
    assert look in before(plan, "remote secret for cluster2 in cluster1")
    assert "remote secret for cluster2 in cluster1" in before(plan, "injection in cluster2")


def test_primaries_are_built_independently_and_read_each_other() -> None:
    plan = plan_of("multi-primary-multinet")
    assert set(steps_about(plan, "remote secret for")) == {
        "remote secret for cluster1 in cluster2",
        "remote secret for cluster2 in cluster1",
    }
    ours = {step.name for step in plan if "cluster2" in step.name}
    assert not ours & before(plan, "application in cluster1")
    assert not steps_about(plan, "injection before")


def test_three_clusters_plan_by_their_roles(tmp_path: Path) -> None:
    plan = plan_of(three_clusters(tmp_path))
    assert set(steps_about(plan, "remote secret for")) == {
        "remote secret for west in east",
        "remote secret for edge in east",
        "remote secret for east in west",
        "remote secret for edge in west",
    }
    assert steps_about(plan, "mesh configuration") == ["mesh configuration in east", "mesh configuration in west"]
    assert "gateways in west" in before(plan, "injection in edge")
    assert "gateways in east" not in before(plan, "injection in edge")
    assert {step.cluster for step in plan} == {None, "east", "west", "edge"}


def test_undoing_takes_istiod_before_namespaces_in_every_cluster(tmp_path: Path) -> None:
    undone = undo_of(plan_of(three_clusters(tmp_path)))
    for cluster, what in (("east", "istiod"), ("west", "istiod"), ("edge", "pointer to west's istiod")):
        assert f"undo {what} in {cluster}" in before(undone, f"undo namespaces in {cluster}")


def test_a_plan_can_be_printed() -> None:
    text = describe_plan(plan_of("primary-remote-samenet"))
    assert text.splitlines()[0] == "  1  certificates under one root"
    assert "istiod in cluster1" in text
    assert text.count("\n") + 1 == len(plan_of("primary-remote-samenet"))
    line = next(line for line in text.splitlines() if line[5:].startswith("remote secret for cluster2 in cluster1"))
    assert line.endswith(
        "after credentials for cluster2, istiod in cluster1, injection before the remote secret in cluster2"
    )
