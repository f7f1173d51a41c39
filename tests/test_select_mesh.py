"""Which mesh an `upgrade` command is about, and how pytest finds it again."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from meshproof.cli import select_mesh as choosing
from meshproof.cli.select_mesh import Chosen, add_choosers, chosen_mesh
from meshproof.clients.kubernetes.client import Kube
from meshproof.core.errors import BadInput
from meshproof.core.model import ClusterName
from meshproof.core.topology import load_topology
from meshproof.detect.propose import Proposal
from meshproof.mesh.access import ClusterAccess
from meshproof.providers.contexts import Attachment
from tests.install_fakes import TOOLBOX, FakeKube

TEXT = """\
title: Two primaries
mesh_id: mesh1
trust_domain: cluster.local
clusters:
  - {name: east, role: primary, network: n, app_version: v1, context: b}
  - {name: west, role: primary, network: n, app_version: v2, context: a}
"""


def chosen(*given: str) -> Chosen:
    parser = argparse.ArgumentParser()
    add_choosers(parser)
    return chosen_mesh(parser.parse_args(given), ())


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An option that names a kubeconfig whose clusters all answer."""

    def greeted(attachment: Attachment, clusters: Sequence[ClusterName], rules: object) -> list[Kube]:
        found: list[Kube] = []
        for cluster in clusters:
            kube = FakeKube(cluster)
            kube.context = attachment.contexts[cluster].name
            found.append(kube)
        return found

    monkeypatch.setattr(choosing, "greeted", greeted)
    monkeypatch.setattr(choosing, "reading_toolbox", lambda *_: TOOLBOX)
    (tmp_path / "config").write_text("contexts: []")
    return f"--kubeconfig={tmp_path / 'config'}"


def test_contexts_with_a_topology(config: str) -> None:
    found = chosen(config, "--topology=multi-primary-samenet", "--cluster1-context=a", "--cluster2-context=b")
    assert [(str(cluster), cluster.access.context) for cluster in found.mesh.clusters] == [
        ("cluster1", "a"),
        ("cluster2", "b"),
    ]
    assert found.options == (
        "--topology=multi-primary-samenet",
        "--provider=kubeconfig",
        config,
        "--context=cluster1=a",
        "--context=cluster2=b",
    )
    assert found.text == ""


@pytest.mark.parametrize("ours", ["", "multi-primary-samenet"])
def test_contexts_without_a_topology_are_asked_what_they_are(
    monkeypatch: pytest.MonkeyPatch, config: str, ours: str
) -> None:
    names = ("cluster2", "cluster1") if ours else ("east", "west")
    proposal = Proposal(lines=(), text=TEXT, ours=ours, contexts=tuple(zip(names, ("b", "a"), strict=True)))
    monkeypatch.setattr(choosing, "proposal_for", lambda _: proposal)
    found = chosen(config, "--cluster1-context=a", "--cluster2-context=b")
    assert {str(cluster): cluster.access.context for cluster in found.mesh.clusters} == dict(proposal.contexts)
    assert found.text == ("" if ours else TEXT)
    assert (f"--topology={ours}" in found.options) is bool(ours)
    assert config in found.options
    monkeypatch.setenv("KUBECONFIG", config.partition("=")[2])
    monkeypatch.setenv("CTX_CLUSTER1", "a")
    assert chosen("--cluster1-context=a", "--cluster2-context=b").options == found.options


def test_the_mesh_of_a_lab_says_itself_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from meshproof.providers.lab import api as lab

    topology = load_topology("multi-primary-samenet")
    accesses = tuple(
        ClusterAccess(name=c.name, kubeconfig=Path("/k"), context=c.name, server_for_peers="")
        for c in topology.clusters
    )
    here = SimpleNamespace(clusters=accesses, toolbox=TOOLBOX)
    monkeypatch.setattr(lab, "running", lambda name: here if name == "mine" else None)
    monkeypatch.setattr(choosing, "running_topology", lambda _: topology)
    found = chosen("--lab-name=mine")
    assert found.mesh.topology is topology
    assert found.options == ("--topology=multi-primary-samenet", "--lab-name=mine")
    assert chosen("--lab-name=mine", "--topology=multi-primary-samenet").options == found.options
    with pytest.raises(BadInput, match="--topology=primary-remote-samenet: the running mesh is multi-primary-samenet"):
        chosen("--lab-name=mine", "--topology=primary-remote-samenet")
    with pytest.raises(BadInput, match="lab default: is not up, and no contexts of a kubeconfig were given"):
        chosen()
    with pytest.raises(BadInput, match="--topology=all: this command works on one mesh"):
        chosen("--topology=all")
