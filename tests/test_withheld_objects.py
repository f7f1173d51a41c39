"""What the user may not read makes claims unavailable: nothing is wrong with the mesh, or with meshproof."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from meshproof.clients.kubernetes.client import ApiError, Kube
from meshproof.core.errors import ClaimFailed, Unavailable
from meshproof.core.topology import load_topology
from meshproof.discovery.remote_secrets import remote_secrets
from meshproof.mesh.access import ClusterAccess
from meshproof.mesh.ca_files import ca_of
from meshproof.mesh.handles import Cluster
from meshproof.mesh.snapshot import ClusterFacts
from tests.api_server import Server, kubeconfig

WORDS = 'secrets "cacerts" is forbidden: User "jane" cannot get resource "secrets"'


@pytest.fixture
def server() -> Iterator[Server]:
    started = Server()
    yield started
    started.close()


@pytest.fixture
def kube(server: Server, tmp_path: Path) -> Kube:
    return Kube(kubeconfig(tmp_path, server.url), "c", name="cluster1")


def facts(kube: Kube) -> ClusterFacts:
    spec = load_topology("multi-primary-samenet").clusters[0]
    access = ClusterAccess(name=spec.name, kubeconfig=kube.kubeconfig, context="c", server_for_peers="")
    ca, withheld = ca_of(kube)
    return ClusterFacts(
        cluster=Cluster(spec=spec, access=access, kube=kube),
        pods=(),
        services=(),
        app_endpoints=(),
        ca=ca,
        root_maps={},
        ca_withheld=withheld,
    )


def test_a_plugin_ca_that_may_not_be_read_is_unavailable(kube: Kube, server: Server) -> None:
    server.reply = lambda *_: (403, [{"message": WORDS}])
    seen = facts(kube)
    with pytest.raises(Unavailable) as caught:
        seen.ca_files()
    assert str(caught.value) == (
        f"secret istio-system/cacerts of cluster1: HTTP 403: {WORDS}\n"
        "  repair: grant the right to get it (docs/attach.md)"
    )


def test_a_plugin_ca_that_is_not_there_is_a_failure_and_other_answers_are_errors(kube: Kube, server: Server) -> None:
    with pytest.raises(ClaimFailed, match="cluster1 has no secret istio-system/cacerts"):
        facts(kube).ca_files()
    server.reply = lambda *_: (500, [{"message": "no"}])
    with pytest.raises(ApiError):
        facts(kube)


def test_remote_secrets_that_may_not_be_read_are_unavailable(kube: Kube, server: Server) -> None:
    server.reply = lambda *_: (403, [{"message": WORDS}])
    with pytest.raises(Unavailable, match="remote secrets of cluster1: HTTP 403"):
        remote_secrets(kube)
