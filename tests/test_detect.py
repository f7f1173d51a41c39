"""What mesh is there, from what clusters say: roles, names, revisions; and what a topology says that they do not."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import pytest
import yaml

from fixtures import topology as glue
from meshproof.cli import detect as command
from meshproof.cli import main as cli
from meshproof.clients.kubernetes.client import ApiError, Json
from meshproof.core.errors import BadInput
from meshproof.core.model import GatewayRef
from meshproof.core.names import INGRESS, of_revision
from meshproof.core.progress import LineNarrator
from meshproof.core.topology import load_topology, parse_topology
from meshproof.detect.compare import as_found, topology_differences
from meshproof.detect.infer import FoundCluster, describe_clusters, find_clusters
from meshproof.detect.propose import Proposal, propose
from meshproof.providers.contexts import Attachment
from meshproof.run.settings import read_settings
from tests.install_fakes import FakeKube, fake_mesh, fake_of

SYSTEM = "istio-system"


class Cluster(FakeKube):
    """A cluster as istioctl and a load balancer leave it, with an ingress gateway."""

    def __init__(self, context: str, network: str, *, revision: str = "default", annotation: str = "") -> None:
        super().__init__(context)
        self.revision = revision
        annotations = {"topology.istio.io/controlPlaneClusters": annotation}
        labels = {"topology.istio.io/network": network} if network else {}
        meta = {"name": SYSTEM, "labels": labels, "annotations": annotations}
        self.put({"kind": "Namespace", "metadata": meta})
        self.add("Service", INGRESS, spec={"type": "LoadBalancer", "selector": {}, "ports": [{"port": 80}]})

    def add(self, kind: str, name: str, *, labels: Json | None = None, **fields: object) -> None:
        self.put({"kind": kind, "metadata": {"name": name, "namespace": SYSTEM, "labels": labels or {}}, **fields})

    def gateway(self, address: str) -> None:
        ports = [{"name": f"p{port}", "port": port} for port in (15443, 15012, 15017)]
        status = {"loadBalancer": {"ingress": [{"ip": address}]}}
        spec = {"type": "LoadBalancer", "ports": ports, "selector": {"istio": "eastwestgateway"}}
        self.add("Service", "istio-eastwestgateway", spec=spec, status=status)

    def webhook(self, path: str, *, url: str = "") -> None:
        labels = {"app": "sidecar-injector", "istio.io/rev": self.revision}
        service = {"name": of_revision("istiod", self.revision), "namespace": SYSTEM, "path": path}
        config = {"url": f"{url}{path}"} if url else {"service": service}
        hooks = [{"name": "x", "clientConfig": config}]
        name = of_revision("istio-sidecar-injector", self.revision)
        self.put(
            {"kind": "MutatingWebhookConfiguration", "metadata": {"name": name, "labels": labels}, "webhooks": hooks}
        )


def primary(
    context: str,
    name: str,
    network: str,
    address: str,
    *,
    mesh_id: str = "mesh1",
    domain: str = "cluster.local",
    **how: str,
) -> Cluster:
    kube = Cluster(context, network, **how)
    container = {"name": "discovery", "image": "registry.example/pilot:1.31.0"}
    env = [{"name": "CLUSTER_ID", "value": name}]
    spec = {"template": {"metadata": {}, "spec": {"containers": [container | {"env": env}]}}}
    labels = {"app": "istiod", "istio.io/rev": kube.revision}
    istiod = of_revision("istiod", kube.revision)
    kube.add("Deployment", istiod, labels=labels, spec=spec, status={"readyReplicas": 1})
    kube.add("Service", istiod, spec={"selector": {"app": "istiod"}, "ports": []})
    values = {"global": {"meshID": mesh_id, "network": network, "multiCluster": {"clusterName": name}}}
    injector = of_revision("istio-sidecar-injector", kube.revision)
    kube.add("ConfigMap", injector, data={"values": json.dumps(values)})
    mesh = yaml.safe_dump({"trustDomain": domain})
    kube.add("ConfigMap", of_revision("istio", kube.revision), data={"mesh": mesh})
    kube.webhook("/inject")
    kube.gateway(address)
    return kube


def remote(context: str, name: str, network: str, dials: str, **how: str) -> Cluster:
    kube = Cluster(context, network, **how)
    istiod = of_revision("istiod", kube.revision)
    kube.add("Service", istiod, spec={"ports": []})
    labels = {"kubernetes.io/service-name": istiod}
    kube.add("EndpointSlice", istiod, labels=labels, endpoints=[{"addresses": [dials]}])
    kube.webhook(f"/inject/cluster/{name}/net/{network}")
    return kube


def let_read(reader: Cluster, cluster: str, of: Cluster) -> None:
    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
        "clusters": [{"name": "c", "cluster": {"server": of.server}}],
        "users": [{"name": "c", "user": {"token": "secret-token"}}],
    }
    data = {cluster: base64.b64encode(yaml.safe_dump(config).encode()).decode()}
    reader.add("Secret", f"istio-remote-secret-{cluster}", labels={"istio/multiCluster": "true"}, data=data)


def two_clusters() -> list[Cluster]:
    """The book's primary-remote mesh on two networks."""
    one, two = primary("a", "cluster1", "network1", "10.0.0.1"), remote("b", "cluster2", "network2", "10.0.0.1")
    let_read(one, "cluster2", two)
    return [one, two]


def three() -> list[Cluster]:
    """Two primaries of a revision, and a remote of the second."""
    east = primary("a", "east", "n1", "10.0.0.1", revision="1-31")
    west = primary("b", "west", "n2", "10.0.0.2", revision="1-31")
    edge = remote("c", "edge", "n2", "10.0.0.2", revision="1-31")
    return [east, west, edge]


def topology_of(found: Sequence[FoundCluster]) -> Json:
    parsed: Json = yaml.safe_load(propose(found).text)
    return parsed


def test_one_of_ours_is_known_in_whatever_order_and_told_in_lines() -> None:
    for kubes in (two_clusters(), two_clusters()[::-1]):
        proposal = propose(find_clusters(kubes))
        assert proposal.ours == "primary-remote-multinet"
        assert set(proposal.command.split()) == {
            *("pytest", "--topology=primary-remote-multinet"),
            *("--context=cluster1=a", "--context=cluster2=b"),
        }
    assert describe_clusters(find_clusters(two_clusters())) == [
        "cluster1 (context a): primary, network network1; istiod of revision default, 1 ready, image "
        "registry.example/pilot:1.31.0; gateway istio-eastwestgateway at 10.0.0.1, ports 15012, 15017, 15443; has "
        "remote secrets for cluster2",
        "cluster2 (context b): remote of cluster1 (it connects to that istiod), network network2; revision default",
        "mesh ID: mesh1",
        "trust domain: cluster.local",
    ]
    assert "secret-token" not in repr(find_clusters(two_clusters()))


def test_another_mesh_is_proposed_as_a_file_that_loads(tmp_path: Path) -> None:
    proposal = propose(find_clusters(three()))
    assert proposal.ours == ""
    topology = parse_topology(proposal.text, tmp_path / "mesh.yaml")
    assert [(c.name, c.role, c.network, c.control_plane, c.revision, c.context) for c in topology.clusters] == [
        ("east", "primary", "n1", "east", "1-31", "a"),
        ("west", "primary", "n2", "west", "1-31", "b"),
        ("edge", "remote", "n2", "west", "1-31", "c"),
    ]
    assert topology_differences(topology, find_clusters(three())) == []
    assert str(proposal.as_error()).endswith(f"run `pytest --topology=mesh.yaml`:\n\n{proposal.text}")


def by_annotation(kubes: list[Cluster]) -> None:
    kubes[2] = remote("c", "edge", "n2", "10.9.9.9", revision="1-31", annotation="west")


def by_secret(kubes: list[Cluster]) -> None:
    kubes[2] = remote("c", "edge", "n2", "10.9.9.9", revision="1-31", annotation="*")
    let_read(kubes[1], "edge", kubes[2])


def by_url(kubes: list[Cluster]) -> None:
    kubes[2] = Cluster("c", "n2", revision="1-31")
    kubes[2].webhook("/inject/cluster/edge/net/n2", url="https://10.0.0.2:15017")


@pytest.mark.parametrize("change", [lambda kubes: None, by_annotation, by_secret, by_url])
def test_whose_remote_it_is_has_several_witnesses(change: Callable[[list[Cluster]], None]) -> None:
    kubes = three()
    change(kubes)
    assert topology_of(find_clusters(kubes))["clusters"][2]["control_plane"] == "west"


def test_a_remote_that_nobody_claims_is_not_guessed() -> None:
    kubes = [*three()[:2], remote("c", "edge", "n2", "10.9.9.9")]
    with pytest.raises(BadInput, match="since the primary of context c is unknown\n  repair: name the intended"):
        propose(find_clusters(kubes))


def test_a_name_that_a_remote_does_not_tell_is_in_the_secret_that_leads_to_it() -> None:
    one, two = two_clusters()
    two.webhook("/inject")
    assert topology_of(find_clusters([one, two]))["clusters"][1]["name"] == "cluster2"


def test_versions_of_the_demonstration_service_are_kept() -> None:
    kubes = two_clusters()
    for kube, version in zip(kubes, ("blue", "green"), strict=True):
        template = {"metadata": {"labels": {"app": "mockshop", "version": version}}}
        meta = {"name": "mockshop", "namespace": "meshproof-app"}
        kube.put({"kind": "Deployment", "metadata": meta, "spec": {"template": template}})
    proposal = propose(find_clusters(kubes))
    assert [c["app_version"] for c in yaml.safe_load(proposal.text)["clusters"]] == ["blue", "green"]
    assert proposal.ours == "", "it would take their pods for others"
    assert topology_differences(load_topology("primary-remote-multinet"), find_clusters(kubes)) == [
        "cluster1 (context a): app_version: the topology has v1, namespace meshproof-app has blue",
        "cluster2 (context b): app_version: the topology has v2, namespace meshproof-app has green",
    ]


def test_two_revisions_side_by_side_are_told_and_either_may_be_meant(tmp_path: Path) -> None:
    """As in a canary upgrade."""
    kubes = three()
    for kube, name, network, address in ((kubes[0], "east", "n1", "10.0.0.1"), (kubes[1], "west", "n2", "10.0.0.2")):
        for path, thing in primary(kube.context, name, network, address, revision="1-32").objects.items():
            kube.objects.setdefault(path, thing)
    found = find_clusters(kubes)
    assert "istiod of revision 1-31, 1 ready" in describe_clusters(found)[0]
    assert "istiod of revision 1-32, 1 ready" in describe_clusters(found)[0]
    with pytest.raises(BadInput, match="since context a has several revisions: 1-31, 1-32; context b has several"):
        propose(found)
    text = propose(find_clusters(three())).text
    assert topology_differences(parse_topology(text, tmp_path / "mesh.yaml"), found) == []
    (told,) = topology_differences(parse_topology(text.replace("1-31", "1-32"), tmp_path / "mesh.yaml"), found)
    assert told.startswith("edge (context c): revision: the topology has 1-32, the cluster has 1-31 (webhook")


def test_without_names_of_networks_all_are_on_one() -> None:
    kubes = [primary("a", "east", "", "10.0.0.1"), primary("b", "west", "", "10.0.0.2")]
    assert [cluster["network"] for cluster in topology_of(find_clusters(kubes))["clusters"]] == ["network1", "network1"]
    kubes[1] = primary("b", "west", "n2", "10.0.0.2")
    with pytest.raises(BadInput, match="context a has no network, but others have one"):
        propose(find_clusters(kubes))


def test_secrets_that_may_not_be_read_are_told_and_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def withheld(kind: str, namespace: str | None = None, *, labels: str = "") -> list[Json]:
        if kind == "Secret":
            raise ApiError("GET secrets", 403, "may not list secrets")
        return FakeKube.list(one, kind, namespace, labels=labels)

    one, two = two_clusters()
    monkeypatch.setattr(one, "list", withheld)
    found = find_clusters([one, two])
    assert "remote secrets not readable (HTTP 403: may not list secrets)" in describe_clusters(found)[0]
    assert propose(found).ours == "primary-remote-multinet"


def test_clusters_without_a_mesh_are_no_topology() -> None:
    empty = FakeKube("b")
    with pytest.raises(BadInput) as caught:
        propose(find_clusters([two_clusters()[0], empty]))
    assert "cluster2 (context b): no namespace istio-system\n" in str(caught.value)
    assert "since context b has no part of a mesh" in str(caught.value)


def test_every_difference_is_told_at_once_with_its_places() -> None:
    kubes = [
        primary("a", "east", "net-a", "10.0.0.1", mesh_id="other", domain="old.example"),
        primary("b", "cluster2", "network2", "10.0.0.2", revision="1-30"),
    ]
    assert topology_differences(load_topology("primary-remote-multinet"), find_clusters(kubes)) == [
        "cluster1 (context a): its name in Istio: the topology has cluster1, the cluster has east (Deployment istiod, "
        "CLUSTER_ID, ConfigMap istio-sidecar-injector, global.multiCluster.clusterName)",
        "cluster1 (context a): network: the topology has network1, the cluster has net-a (ConfigMap "
        "istio-sidecar-injector, global.network, label topology.istio.io/network of namespace istio-system)",
        "cluster1 (context a): mesh ID: the topology has mesh1, the cluster has other (ConfigMap "
        "istio-sidecar-injector, global.meshID)",
        "cluster1 (context a): trust domain: the topology has cluster.local, the cluster has old.example (ConfigMap "
        "istio, trustDomain)",
        "cluster2 (context b): the topology has a remote of cluster1, but it is a primary (Deployment istiod-1-30)",
        "cluster2 (context b): revision: the topology has default, the cluster has 1-30 (Deployment istiod-1-30, label "
        "istio.io/rev)",
    ]


def test_a_remote_where_a_primary_should_be_is_told() -> None:
    topology = load_topology("multi-primary-multinet")
    assert topology_differences(topology, find_clusters(two_clusters())) == [
        "cluster2 (context b): the topology has a primary, but it has no istiod: it is a remote of cluster1"
    ]
    without_istiod = Cluster("b", "network2")
    without_istiod.webhook("/inject")
    assert topology_differences(topology, find_clusters([two_clusters()[0], without_istiod])) == [
        "cluster2 (context b): the topology has a primary, but it has no istiod"
    ]
    assert topology_differences(topology, find_clusters([two_clusters()[0], FakeKube("b")])) == [
        "cluster2 (context b): the topology has a primary, but it has no mesh"
    ]


def test_a_remote_of_another_one_is_told(tmp_path: Path) -> None:
    text = propose(find_clusters(three())).text.replace("control_plane: west", "control_plane: east")
    assert topology_differences(parse_topology(text, tmp_path / "mesh.yaml"), find_clusters(three())) == [
        "edge (context c): the topology has a remote of east, but its control plane is west: it connects to that istiod"
    ]


def test_what_a_cluster_says_in_two_ways_is_for_claims_to_judge() -> None:
    one, two = two_clusters()
    one.objects[f"/api/v1/namespaces/{SYSTEM}"]["metadata"]["labels"] = {"topology.istio.io/network": "typo"}
    assert topology_differences(load_topology("primary-remote-multinet"), find_clusters([one, two])) == []


# -- gateways ---------------------------------------------------------------------------------------------------------


def front(kube: Cluster, place: str, *ports: int, template: Json | None = None) -> None:
    """A gateway as Helm's chart leaves it: a Service, and a Deployment that asks for the injection template."""
    namespace, _, name = place.partition("/")
    labels = {"istio": name}
    helm = {"metadata": {"labels": labels, "annotations": {"inject.istio.io/templates": "gateway"}}, "spec": {}}
    meta = {"name": name, "namespace": namespace}
    spec = {"type": "LoadBalancer", "selector": labels, "ports": [{"port": port} for port in ports]}
    status = {"loadBalancer": {"ingress": [{"ip": "10.0.0.7"}]}}
    kube.put({"kind": "Service", "metadata": meta, "spec": spec, "status": status})
    kube.put({"kind": "Deployment", "metadata": meta, "spec": {"template": template or helm}})


def without_usual(kubes: list[Cluster]) -> list[Cluster]:
    for kube in kubes:
        kube.delete("Service", "istio-eastwestgateway", SYSTEM)
        kube.delete("Service", INGRESS, SYSTEM)
    return kubes


OPERATOR: Json = {
    "metadata": {"labels": {"istio": "door", "app": "door"}},
    "spec": {"containers": [{"name": "istio-proxy", "args": ["proxy", "router"]}]},
}
"""The pods of a gateway that istioctl makes; they are not injected."""


def test_gateways_of_other_names_are_found_by_what_their_pods_are(tmp_path: Path) -> None:
    kubes = without_usual(two_clusters())
    front(kubes[0], "istio-ingress/istio-ingress", 80, 443)
    front(kubes[0], "edge/cross", 15443, 15012, 15017)
    front(kubes[1], "door/door", 80, template=OPERATOR)
    kubes[0].add("Service", "shop", spec={"type": "LoadBalancer", "selector": {"app": "shop"}, "ports": [{"port": 80}]})
    proposal = propose(find_clusters(kubes))
    one, two = yaml.safe_load(proposal.text)["clusters"]
    assert (one["ingress"], one["east_west"]) == ("istio-ingress/istio-ingress", "edge/cross")
    assert two["ingress"] == "door/door"
    assert "east_west" not in two
    assert proposal.ours == "", "ours have other gateways"
    assert topology_differences(parse_topology(proposal.text, tmp_path / "mesh.yaml"), find_clusters(kubes)) == []
    told = describe_clusters(find_clusters(kubes))[0]
    assert "gateway edge/cross at 10.0.0.7, ports 15012, 15017, 15443; ingress gateway istio-ingress/istio-ing" in told
    assert "east-west gateway edge/cross" in told
    assert topology_differences(load_topology("primary-remote-multinet"), find_clusters(kubes)) == [
        "cluster1 (context a): ingress gateway: the topology has istio-system/istio-ingressgateway, which does "
        "not exist; the cluster has istio-ingress/istio-ingress",
        "cluster1 (context a): east-west gateway: the topology has istio-system/istio-eastwestgateway, which does "
        "not exist; the cluster has edge/cross",
        "cluster2 (context b): ingress gateway: the topology has istio-system/istio-ingressgateway, which does "
        "not exist; the cluster has door/door",
    ]


def test_of_several_gateways_the_one_with_the_usual_name_is_meant_else_none(tmp_path: Path) -> None:
    kubes = two_clusters()
    kubes[0].delete("Service", INGRESS, SYSTEM)
    for name in ("public", "private"):
        front(kubes[0], f"istio-ingress/{name}", 80)
    proposal = propose(find_clusters(kubes))
    assert "ingress" not in yaml.safe_load(proposal.text)["clusters"][0]
    assert (
        "istio-ingress/public or istio-ingress/private is its ingress gateway"
        in describe_clusters(find_clusters(kubes))[0]
    )
    (told,) = topology_differences(load_topology("primary-remote-multinet"), find_clusters(kubes))
    assert told.endswith("which does not exist; the cluster has istio-ingress/public or istio-ingress/private")
    named = proposal.text.replace("context: a", "context: a\n  ingress: istio-ingress/private")
    assert topology_differences(parse_topology(named, tmp_path / "mesh.yaml"), find_clusters(kubes)) == []
    front(kubes[0], f"{SYSTEM}/istio-ingressgateway", 80)
    assert propose(find_clusters(kubes)).ours == "primary-remote-multinet"


def test_a_cluster_without_an_ingress_gateway_is_found_and_proposed_so(tmp_path: Path) -> None:
    kubes = two_clusters()
    kubes[1].delete("Service", INGRESS, SYSTEM)
    proposal = propose(find_clusters(kubes))
    one, two = yaml.safe_load(proposal.text)["clusters"]
    assert ("ingress" in one, two["ingress"]) == (False, "none")
    assert proposal.ours == "", "ours have ingress gateways everywhere"
    proposed = parse_topology(proposal.text, tmp_path / "mesh.yaml")
    assert [cluster.ingress for cluster in proposed.clusters] == [GatewayRef(SYSTEM, INGRESS), None]
    assert describe_clusters(find_clusters(kubes))[1].endswith("network network2; revision default; no ingress gateway")
    for topology in (proposed, load_topology("primary-remote-multinet")):
        assert topology_differences(topology, find_clusters(kubes)) == [], "who does not say where it is, may have none"


def test_an_ingress_gateway_that_the_topology_denies_or_names_elsewhere_is_a_difference(tmp_path: Path) -> None:
    kubes = two_clusters()
    text = propose(find_clusters(kubes)).text
    denied = parse_topology(text.replace("context: b", "context: b\n  ingress: none"), tmp_path / "mesh.yaml")
    assert topology_differences(denied, find_clusters(kubes)) == [
        "cluster2 (context b): ingress gateway: the topology has none, the cluster "
        "has istio-system/istio-ingressgateway"
    ]
    kubes[1].delete("Service", INGRESS, SYSTEM)
    named = parse_topology(text.replace("context: b", "context: b\n  ingress: door/door"), tmp_path / "mesh.yaml")
    assert topology_differences(named, find_clusters(kubes)) == [
        "cluster2 (context b): ingress gateway: the topology has door/door, which does not exist, and the "
        "cluster has no other candidate"
    ]


def test_a_mesh_as_it_is_found_has_no_ingress_gateway_where_there_is_none() -> None:
    """Neither where another may be meant: then the topology must say so."""
    told: list[str] = []
    mesh = fake_mesh(load_topology("primary-remote-multinet"))
    one, two = map(fake_of, mesh.clusters)
    front(cast(Cluster, one), "istio-ingress/istio-ingress", 80)
    found = as_found(mesh, LineNarrator(told.append))
    assert [cluster.spec.ingress for cluster in found.clusters] == [GatewayRef(SYSTEM, INGRESS), None]
    assert found.topology.clusters == tuple(cluster.spec for cluster in found.clusters)
    assert [cluster.kube for cluster in found.clusters] == [one, two]
    (line,) = told
    assert line.endswith(" cluster2 has no ingress gateway: checks through one are skipped there")
    front(cast(Cluster, two), f"{SYSTEM}/{INGRESS}", 80)
    assert as_found(mesh, LineNarrator(told.append)).topology == mesh.topology


def test_a_gateway_that_is_missing_is_for_claims_to_judge() -> None:
    assert (
        topology_differences(load_topology("primary-remote-multinet"), find_clusters(without_usual(two_clusters())))
        == []
    )


@pytest.mark.parametrize("arguments", [["discovery", "--domain", "corp.example"], ["--domain=corp.example"]])
def test_names_of_services_in_another_domain_are_refused_with_the_place(arguments: list[str]) -> None:
    kubes = two_clusters()
    (istiod,) = [item for item in kubes[0].list("Deployment") if item["metadata"]["name"] == "istiod"]
    istiod["spec"]["template"]["spec"]["containers"][0]["args"] = arguments
    kubes[0].put({**istiod, "kind": "Deployment"})
    assert topology_differences(load_topology("primary-remote-multinet"), find_clusters(kubes)) == [
        "cluster1 (context a): the cluster domain is corp.example (Deployment istiod, --domain); meshproof supports "
        "only cluster.local"
    ]


# -- how it is asked for ----------------------------------------------------------------------------------------------


def test_the_command_prints_the_file_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked: list[dict[str, str]] = []

    def answer(attachment: Attachment) -> Proposal:
        asked.append({str(cluster): context.name for cluster, context in attachment.contexts.items()})
        return propose(find_clusters(two_clusters()))

    (tmp_path / "config").write_text("contexts: []")
    monkeypatch.setattr(command, "proposal_for", answer)
    given = ["detect", f"--kubeconfig={tmp_path / 'config'}", "--cluster1-context=a", "--context=cluster2=b"]
    assert cli.main(given) == 0
    printed, told = capsys.readouterr()
    assert asked == [{"cluster2": "b", "cluster1": "a"}]
    assert parse_topology(printed, tmp_path / "mesh.yaml").primaries[0].context == "a"
    assert (
        "primary-remote-multinet is the same topology; to verify it: pytest --topology=primary-remote-multinet" in told
    )


def test_without_contexts_nobody_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config").write_text("contexts: [{name: prod}]")
    assert cli.main(["detect", f"--kubeconfig={tmp_path / 'config'}"]) == 2
    assert "meshproof: the clusters: no option names their contexts" in capsys.readouterr().err


def test_a_run_without_a_topology_is_told_what_is_there_where_clusters_exist(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text("contexts: []")
    values = {"meshproof_kubeconfig": str(tmp_path / "config"), "meshproof_context": ["east=a"]}
    monkeypatch.setattr(glue, "proposal_for", lambda _: propose(find_clusters(two_clusters())))
    told = str(glue._unchosen(read_settings(values, root=tmp_path)))
    assert told.startswith(
        "--topology is missing: the clusters have this mesh, which is primary-remote-multinet:\n  cluster1"
    )
    assert told.endswith(
        "repair: if this is the intended mesh: pytest --topology=primary-remote-multinet --context=cluster1=a "
        "--context=cluster2=b"
    )
    assert "there is no default mesh" in str(glue._unchosen(read_settings({}, root=tmp_path)))


def test_a_cluster_that_the_topology_does_not_have_is_named_once() -> None:
    one, two = two_clusters()
    third = remote("c", "cluster3", "network1", "10.0.0.1")
    let_read(one, "cluster3", third)
    topology = load_topology("primary-remote-multinet")
    assert topology_differences(topology, find_clusters([one, two])) == [
        "cluster3 is missing in the topology, but belongs to the mesh: istiod reads it (secret "
        "istio-system/istio-remote-secret-cluster3 of cluster1). Add it to the topology file, with its context; or, if "
        "it has left the mesh, delete the secret"
    ]


def test_a_secret_with_a_wrong_name_is_left_to_the_claims() -> None:
    """DISCOVERY-04 names it: the cluster is one of the topology's."""
    one, two = two_clusters()
    let_read(one, "cluster2-old", two)
    topology = load_topology("primary-remote-multinet")
    assert not any("is missing" in line for line in topology_differences(topology, find_clusters([one, two])))
    alone = primary("a", "cluster1", "network1", "10.0.0.1")
    let_read(alone, "other", Cluster("x", "network2"))
    assert not any("is missing" in line for line in topology_differences(topology, find_clusters([alone, two])))
