"""Installing on clusters of others: what is in the way is named, what will be made is told, and with which images."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshproof.core.errors import BadInput
from meshproof.core.names import MANAGED_BY
from meshproof.core.progress import Silent
from meshproof.core.topology import load_topology
from meshproof.install.executor import run_plan
from meshproof.install.plan import plan_for
from meshproof.install.preflight import must_be_dialled_from_elsewhere, refuse_foreign, what_will_be_made
from meshproof.mesh.access import ClusterAccess
from meshproof.mesh.handles import Mesh
from meshproof.providers.release import release_toolbox
from tests.install_fakes import FakeBuild, fake_mesh, fake_of


def bare() -> Mesh:
    return fake_mesh(load_topology("primary-remote-samenet"))


def refusal(mesh: Mesh) -> list[str]:
    """What is named, line by line; nothing may be written."""
    before = [list(fake_of(cluster).writes) for cluster in mesh.clusters]
    with pytest.raises(
        BadInput, match=r"^--mesh=install: objects that meshproof did not create are in the way:"
    ) as caught:
        refuse_foreign(mesh)
    assert [fake_of(cluster).writes for cluster in mesh.clusters] == before
    return [line.removeprefix("  - ") for line in str(caught.value).splitlines() if line.startswith("  - ")]


def test_bare_clusters_and_those_with_a_mesh_of_ours_are_taken() -> None:
    mesh = bare()
    refuse_foreign(mesh)
    run_plan(plan_for(mesh, FakeBuild(mesh)), Silent())
    refuse_foreign(mesh)


def test_a_foreign_mesh_is_named_whole_and_stays() -> None:
    mesh = bare()
    run_plan(plan_for(mesh, FakeBuild(mesh)), Silent())
    kube = fake_of(mesh.clusters[0])
    for name in ("istio-system", "meshproof-clients"):
        kube.objects[f"/api/v1/namespaces/{name}"]["metadata"]["labels"] = {"istio-injection": "enabled"}
    told = refusal(mesh)
    assert {"cluster1: Namespace istio-system", "cluster1: Namespace meshproof-clients"} < set(told)
    assert "cluster1: CustomResourceDefinition gateways.networking.istio.io" in told
    assert "cluster1: ConfigMap default/istio-ca-root-cert" in told
    assert not any("meshproof-app" in line and "Namespace" in line for line in told), "that one is ours"
    assert all(line.startswith("cluster1: ") for line in told)


def test_what_an_istio_has_left_is_not_taken_for_ours() -> None:
    mesh = bare()
    fake_of(mesh.clusters[1]).put(
        {"kind": "CustomResourceDefinition", "metadata": {"name": "gateways.networking.istio.io"}}
    )
    assert refusal(mesh) == ["cluster2: CustomResourceDefinition gateways.networking.istio.io"]


def test_a_namespace_of_somebody_beside_a_mesh_of_ours_is_named() -> None:
    mesh = bare()
    for name, labels in (("istio-system", dict(MANAGED_BY)), ("meshproof-clients", {})):
        fake_of(mesh.clusters[0]).put({"kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    assert refusal(mesh) == ["cluster1: Namespace meshproof-clients"]


def test_an_api_server_that_only_this_machine_can_dial_is_refused() -> None:
    mesh = bare()
    must_be_dialled_from_elsewhere(mesh)
    first, second = mesh.clusters
    access = ClusterAccess(
        name=first.name, kubeconfig=Path(), context="kind", server_for_peers="https://127.0.0.1:41233"
    )
    local = type(first)(spec=first.spec, access=access, kube=first.kube)
    with pytest.raises(BadInput, match=r"its API server is https://127.0.0.1:41233, which other clusters cannot reach"):
        must_be_dialled_from_elsewhere(Mesh(topology=mesh.topology, clusters=(local, second), toolbox=mesh.toolbox))


def test_what_will_be_made_is_told_with_what_is_not_ours_to_make() -> None:
    lines = list(what_will_be_made(load_topology("primary-remote-samenet"), keep=False))
    made = (
        "the namespaces istio-system, meshproof-app, meshproof-clients, meshproof-outside; Istio's CRDs, cluster "
        "roles and "
        "webhooks; a ConfigMap with istiod's root in every namespace; load balancers for"
    )
    assert lines == [
        f"cluster1 gets {made} istio-ingressgateway, istio-eastwestgateway",
        f"cluster2 gets {made} istio-ingressgateway",
        "everything is removed at the end, including all objects in these namespaces",
        "pods of cluster1, cluster2 (network1) must reach each other by address: meshproof creates no routes there",
    ]
    kept = list(what_will_be_made(load_topology("multi-primary-multinet"), keep=True))
    assert kept[-1] == "it is kept (--keep)"


def istioctl(folder: Path, version: str) -> Path:
    program = folder / "istioctl"
    program.write_text(f"#!/bin/sh\necho 'client version: {version}'\n")
    program.chmod(0o755)
    return program


def test_images_come_from_the_release_unless_values_name_a_registry(tmp_path: Path) -> None:
    program = istioctl(tmp_path, "1.31.0")
    released = release_toolbox(program, {"app": "mine:1"})
    assert (released.hub, released.tag) == ("docker.io/istio", "1.31.0")
    assert released.images == {"app": "mine:1", "client": "docker.io/istio/proxyv2:1.31.0"}
    values = {"hub": "registry.example/istio", "tag": "1.31.0-debug", "values": {"global": {}}}
    own = release_toolbox(program, {}, values)
    assert (own.hub, own.tag, own.istio_values) == ("registry.example/istio", "1.31.0-debug", values)
    assert set(own.images.values()) == {"registry.example/istio/proxyv2:1.31.0-debug"}
    built = istioctl(tmp_path, "1.31-dev")
    with pytest.raises(BadInput, match="has images of releases only"):
        release_toolbox(built, {})
    assert release_toolbox(built, {}, values).tag == "1.31.0-debug"
    assert release_toolbox(built, {}, {"tag": "1.31-dev"}).tag == "1.31-dev", "who names one knows that it is there"
