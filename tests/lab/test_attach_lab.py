"""A run on clusters of others: through a plain kubeconfig, with no more rights than it says it needs, and no trace."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from pyroute2 import IPRoute
from pyroute2.netlink.rtnl import rt_type

from meshproof.clients.istio.configuration import istio
from meshproof.clients.kubernetes.client import Json, Kube
from meshproof.clients.kubernetes.manifests import core
from meshproof.clients.kubernetes.rollout import deployment_ready
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.progress import Narrator
from meshproof.core.topology import load_topology
from meshproof.install.lifecycle import install_mesh, uninstall_mesh
from meshproof.install.own_namespaces import PROBE_NAMESPACES
from meshproof.install.removal import remove_these_namespaces
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.objects import service_facts
from meshproof.providers.lab.api import Lab
from tools.docs.cluster_role import FILE, READ_SECRETS, VERIFY

from .objects import differences, everything
from .test_install_lab import TOPOLOGY
from .visits import IMAGES, Visit, exec_plugin, must_be_a_full_verdict, plain_kubeconfig, project

pytestmark = pytest.mark.lab

VISITOR = "visitor"
NAMESPACE = "default"

HALF = {"CONTROL-01"}
"""Of it only the second half can be seen on a mesh that is there."""


INSTALLED = TOPOLOGY.replace(
    "app_version: v1}", "app_version: v1, ingress: istio-ingress/istio-ingress, east_west: edge/istio-crossing}"
)
"""The first cluster's gateways are called, labelled and placed as with Helm's chart, the second's as in the book."""
DOORS = "doors"
FOUND = INSTALLED.replace("app_version: v2}", f"app_version: v2, ingress: istio-system/{DOORS}}}")
"""And then the second's ingress gateway is changed, too."""
OPERATOR_PORT = 8080
"""Where pods of the ingress gateways of istioctl's profiles listen for their Service's port 80."""


@pytest.fixture(scope="module")
def mesh(lab: Lab, tmp_path_factory: pytest.TempPathFactory, narrator: Narrator) -> Iterator[Mesh]:
    """A mesh as others have one: without anything of meshproof's on it."""
    path = tmp_path_factory.mktemp("topology") / "east-west.yaml"
    path.write_text(INSTALLED)
    topology = load_topology(str(path))
    lab.connect(topology)
    made = Mesh.of(topology, lab.clusters, lab.toolbox)
    try:
        install_mesh(made, narrator)
        together(lambda c: remove_these_namespaces(c.kube, PROBE_NAMESPACES, aborted=threading.Event()), made.clusters)
        _as_without_a_load_balancer(made.clusters[1])
        yield made
    finally:
        uninstall_mesh(made, narrator)


def _as_without_a_load_balancer(cluster: Cluster) -> None:
    """An ingress gateway as on bare metal, whose Service has a name that has nothing to do with its pods' labels: its
    address is in `externalIPs`, and its pods listen as those of istioctl's profiles do."""
    gateway = cluster.spec.ingress
    assert gateway is not None
    service = cluster.kube.find("Service", gateway.name, gateway.namespace)
    assert service is not None
    ports = [{"name": "http2", "port": names.PORT_INGRESS, "targetPort": OPERATOR_PORT}]
    selector = {"app": service["spec"]["selector"]["app"]}
    spec = {"externalIPs": service_facts(service).addresses, "selector": selector, "ports": ports}
    cluster.kube.delete("Service", gateway.name, gateway.namespace)
    cluster.kube.apply(core("Service", {"name": DOORS, "namespace": gateway.namespace}, spec=spec))


def visitor(name: str) -> tuple[Json, ...]:
    """An account with exactly the rights that docs/attach.md asks for: those of the file that is to be applied."""
    account = {"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}
    wanted = (VERIFY, READ_SECRETS)
    roles = [role for role in yaml.safe_load_all(FILE.read_text()) if role["metadata"]["name"] in wanted]
    assert len(roles) == len(wanted)
    return (
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": NAMESPACE}},
        *roles,
        *(
            {
                "apiVersion": role["apiVersion"],
                "kind": "ClusterRoleBinding",
                "metadata": {"name": role["metadata"]["name"]},
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": "ClusterRole",
                    "name": role["metadata"]["name"],
                },
                "subjects": [account],
            }
            for role in roles
        ),
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


def namespaces(kube: Kube) -> set[str]:
    return {item["metadata"]["name"] for item in kube.list("Namespace")}


@pytest.fixture
def visit(mesh: Mesh, tokens: dict[Cluster, str], tmp_path: Path) -> Visit:
    east, west = mesh.clusters
    files = (
        plain_kubeconfig(tmp_path, east.access, {"token": tokens[east]}),
        plain_kubeconfig(tmp_path, west.access, exec_plugin(tmp_path, tokens[west])),
    )
    environment = {**os.environ, "KUBECONFIG": os.pathsep.join(map(str, files))}
    return Visit(folder=project(tmp_path / "project"), environment=environment)


def test_a_run_on_clusters_of_others_leaves_no_trace(
    lab: Lab, mesh: Mesh, visit: Visit, tokens: dict[Cluster, str], narrator: Narrator
) -> None:
    """Whose topology is what `meshproof detect` has found there."""
    before = together(lambda cluster: everything(cluster.kube), mesh.clusters)
    recorded = {cluster: lab.audit_log(cluster.name).stat().st_size for cluster in mesh.clusters}
    assert all(namespaces(cluster.kube).isdisjoint(PROBE_NAMESPACES) for cluster in mesh.clusters)
    looked = visit.run("meshproof.cli.main", "detect", "--cluster1-context=arn:east", "--cluster2-context=arn:west")
    assert looked.returncode == 0, looked.stderr
    found = {cluster["name"]: cluster for cluster in yaml.safe_load(looked.stdout)["clusters"]}
    assert (found["east"]["ingress"], found["east"]["east_west"]) == (
        "istio-ingress/istio-ingress",
        "edge/istio-crossing",
    )
    assert found["west"]["ingress"] == f"istio-system/{DOORS}"
    assert "east_west" not in found["west"]
    (visit.folder / "mesh.yaml").write_text(looked.stdout)
    with narrator.step("pytest on a kubeconfig in a process of its own"):
        done = visit.pytest("--topology=mesh.yaml", timeout_s=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the mesh's own proxy image, since it has a shell" in done.stdout
    after = together(lambda cluster: everything(cluster.kube), mesh.clusters)
    for cluster, one, other in zip(mesh.clusters, before, after, strict=True):
        assert len(one) > 300, "a whole cluster was compared"
        assert differences(one, other) == [], f"{cluster}\n{done.stdout}"
        written = writes(lab.audit_log(cluster.name), recorded[cluster])
        assert len(written) > 30
        assert [write for write in written if not is_in_our_namespaces(write)] == []
    verdict = yaml.safe_load((visit.folder / "reports" / "verdict.yaml").read_text())
    must_be_a_full_verdict(verdict, "mesh", half=HALF)
    assert verdict["istio"] == mesh.toolbox.istio_version
    must_hold_no_secrets(visit.folder / "reports", tokens)


def writes(log: Path, begin: int) -> list[Json]:
    """What the visitor wrote, as the API server has recorded it; not what is only asked, and kept nowhere."""
    with log.open() as lines:
        lines.seek(begin)
        events: list[Json] = [json.loads(line) for line in lines]
    user = f"system:serviceaccount:{NAMESPACE}:{VISITOR}"
    return [
        event
        for event in events
        if event["user"]["username"] == user
        and event["objectRef"].get("apiGroup") != "authorization.k8s.io"
        and "dryRun=All" not in event["requestURI"]
    ]


def is_in_our_namespaces(write: Json) -> bool:
    thing = write["objectRef"]
    namespace = thing["name"] if thing["resource"] == "namespaces" else thing.get("namespace", "")
    return namespace in PROBE_NAMESPACES or namespace.startswith("meshproof-")


def test_an_upgrade_is_checked_without_a_write_and_with_what_may_not_be_read(
    lab: Lab, mesh: Mesh, visit: Visit
) -> None:
    """The visitor may not read roles, so what they give the reader account is not known, and that is said."""
    recorded = {cluster: lab.audit_log(cluster.name).stat().st_size for cluster in mesh.clusters}
    contexts = ("--cluster1-context=arn:east", "--cluster2-context=arn:west")
    done = visit.run("meshproof.cli.main", "upgrade", "check", "--to=1.32", "--no-claims", "--json", *contexts)
    assert done.returncode == 3, done.stdout + done.stderr
    verdict = json.loads(done.stdout)
    found = {(reason["rule"], reason["where"], reason["what"].partition(" could")[0]) for reason in verdict["reasons"]}
    assert found >= {
        ("DATA-01", "mesh", "the changes of 1.32 are unknown: these rules cover releases up to 1.31"),
        ("UNKNOWN", "west", "ClusterRole objects"),
        ("UNKNOWN", "west", "ClusterRoleBinding objects"),
    }
    for cluster in mesh.clusters:
        assert writes(lab.audit_log(cluster.name), recorded[cluster]) == []


def test_without_a_topology_what_is_there_is_proposed_and_nothing_is_run(visit: Visit) -> None:
    done = visit.pytest("--cluster1-context=arn:east", "--cluster2-context=arn:west")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "west (context arn:west): remote of east (it connects to that istiod), network network2" in done.stderr
    _, _, text = done.stderr.partition("run `pytest --topology=mesh.yaml`:\n")
    proposed = yaml.safe_load(text)
    wanted = yaml.safe_load(FOUND)
    assert proposed["clusters"] == [c | {"context": f"arn:{c['name']}"} for c in wanted["clusters"]]
    assert {key: proposed[key] for key in ("mesh_id", "trust_domain")} == {
        "mesh_id": "mesh1",
        "trust_domain": "cluster.local",
    }


def test_another_topology_than_the_one_that_is_there_is_refused_with_all_differences(visit: Visit) -> None:
    contexts = ("--cluster1-context=arn:west", "--cluster2-context=arn:east")
    done = visit.pytest("--topology=multi-primary-samenet", *contexts, *IMAGES)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    told = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("  - ")]
    assert [line.partition(":")[0] for line in told] == [
        "  - cluster1 (context arn",
        "  - cluster1 (context arn",
        "  - cluster1 (context arn",
        "  - cluster1 (context arn",
        "  - cluster2 (context arn",
        "  - cluster2 (context arn",
    ]
    assert "the topology has a primary, but it has no istiod: it is a remote of cluster2" in told[0]
    assert told[-1].endswith(
        "istio-system/istio-ingressgateway, which does not exist; the cluster has istio-ingress/istio-ingress"
    )


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


def must_hold_no_secrets(reports: Path, tokens: dict[Cluster, str]) -> None:
    written = [path.read_text(errors="replace") for path in reports.rglob("*") if path.is_file()]
    assert len(written) > 40
    for text in written:
        assert "PRIVATE KEY" not in text
        assert not any(token in text for token in tokens.values())


@contextmanager
def kept_out(addresses: Sequence[str]) -> Iterator[None]:
    """This machine has no way to these addresses; nodes and pods have, since none of theirs leads through it."""
    with IPRoute() as host:
        try:
            for address in addresses:
                host.route("add", dst=f"{address}/32", type="unreachable")
            yield
        finally:
            for route in host.get_routes(family=socket.AF_INET):
                if route.get_attr("RTA_DST") in addresses and route["type"] == rt_type["unreachable"]:
                    host.route("del", dst=f"{route.get_attr('RTA_DST')}/32", type="unreachable")


ASKED = "TRAFFIC-01 or TRAFFIC-03 or TRAFFIC-05 or TRAFFIC-08 or GATEWAYS-06"
"""Claims that ask through the gateways as users do."""


def test_gateways_that_this_machine_cannot_reach_are_asked_by_pods_and_that_is_said(mesh: Mesh, visit: Visit) -> None:
    places = [(cluster, namespace) for cluster in mesh.clusters for namespace in cluster.spec.mesh_namespaces]
    services = [service for cluster, namespace in places for service in cluster.kube.list("Service", namespace)]
    addresses = [a for service in map(service_facts, services) for a in service.addresses]
    assert len(addresses) == 4, "an ingress and an east-west gateway in each cluster"
    (visit.folder / "mesh.yaml").write_text(FOUND)
    contexts = ("--context=east=arn:east", "--context=west=arn:west")
    with kept_out(addresses):
        done = visit.pytest("--topology=mesh.yaml", *contexts, *IMAGES, "-k", ASKED, timeout_s=120)
    assert done.returncode == 0, done.stdout + done.stderr
    verdict = yaml.safe_load((visit.folder / "reports" / "verdict.yaml").read_text())
    results = {code: row["result"] for code, row in verdict["topologies"]["mesh"]["claims"].items()}
    assert results == dict.fromkeys(ASKED.split(" or "), "SUCCEEDED")
    assert len(verdict["asked_from_pods"]) == len(addresses)
    for line in verdict["asked_from_pods"]:
        assert line in done.stdout
    by = {line.partition(" (")[0]: line.partition("outside the mesh in ")[2] for line in verdict["asked_from_pods"]}
    assert by["istio-ingress of east"].startswith("west: this machine cannot connect to it")


@contextmanager
def as_by_istios_documentation(remote: Cluster) -> Iterator[None]:
    """While the block lasts the remote has no ingress gateway, and the Service of its east-west gateway lists the ports
    that Istio's script writes for every cluster (samples/multicluster/gen-eastwest-gateway.sh)."""
    kube, east_west = remote.kube, remote.spec.east_west
    doors = kube.find("Service", DOORS, "istio-system")
    service = kube.find("Service", east_west.name, east_west.namespace)
    assert doors is not None
    assert service is not None
    written = {"status-port": 15021, "tls": 15443, "tls-istiod": 15012, "tls-webhook": 15017}
    ports = [{"name": name, "port": port, "targetPort": port} for name, port in written.items()]
    before = [{key: port[key] for key in ports[0]} for port in service["spec"]["ports"]]
    kube.delete("Service", DOORS, "istio-system")
    kube.merge_patch("Service", east_west.name, {"spec": {"ports": ports}}, east_west.namespace)
    try:
        yield
    finally:
        kube.merge_patch("Service", east_west.name, {"spec": {"ports": before}}, east_west.namespace)
        spec = {key: doors["spec"][key] for key in ("externalIPs", "selector", "ports")}
        kube.apply(core("Service", {"name": DOORS, "namespace": "istio-system"}, spec=spec))


PROVEN = "TRAFFIC-01 or TRAFFIC-03 or TRAFFIC-05 or TRAFFIC-08 or DISCOVERY-02 or GATEWAYS-06"


def test_a_remote_by_istios_documentation_is_proven_and_notes_say_what_was_not_examined(
    mesh: Mesh, visit: Visit
) -> None:
    contexts = ("--cluster1-context=arn:east", "--cluster2-context=arn:west")
    with as_by_istios_documentation(mesh.clusters[1]):
        looked = visit.run("meshproof.cli.main", "detect", *contexts)
        assert yaml.safe_load(looked.stdout)["clusters"][1]["ingress"] == "none"
        (visit.folder / "mesh.yaml").write_text(INSTALLED)  # which says nothing about the second's ingress gateway
        done = visit.pytest("--topology=mesh.yaml", *contexts, *IMAGES, "-k", PROVEN, timeout_s=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "west has no ingress gateway: checks through one are skipped there" in done.stdout
    claims = yaml.safe_load((visit.folder / "reports" / "verdict.yaml").read_text())["topologies"]["mesh"]["claims"]
    assert {code: row["result"] for code, row in claims.items()} == dict.fromkeys(PROVEN.split(" or "), "SUCCEEDED")
    skipped = "not examined: ingress gateway of west, since west has no ingress gateway"
    listed = (
        "istio-system/istio-eastwestgateway lists 15012, 15017, which the topology does not need; "
        "nothing accepts connections there"
    )
    notes = {code: row["notes"] for code, row in claims.items()}
    assert notes.pop("GATEWAYS-06") == [f"west: {listed}: remove it from the Service"]
    assert set(map(tuple, notes.values())) == {(skipped,)}
    assert f"NOTE    mesh: {skipped} (" in done.stdout


@contextmanager
def own_namespace_only(istiod: Cluster) -> Iterator[None]:
    """While the block lasts gateways are given what is in their own namespace, as mesh operators may want it; who does,
    has there what opens the east-west gateway. That is not taken back: nothing can use the mesh after it."""
    kube, name = istiod.kube, istiod.spec.istiod
    found = kube.find("Deployment", name, "istio-system")
    assert found is not None
    (container,) = found["spec"]["template"]["spec"]["containers"]
    switch = {"name": "PILOT_SCOPE_GATEWAY_TO_NAMESPACE", "value": "true"}

    def give(containers: list[Json]) -> None:
        template = {"spec": {"containers": containers}}
        kube.merge_patch("Deployment", name, {"spec": {"template": template}}, "istio-system")
        deployment_ready(kube, "istio-system", name, timeout_s=60.0, aborted=threading.Event())

    beside = istiod.spec.east_west.namespace
    for gateway in kube.list("Gateway", "istio-system"):
        kube.apply(istio("Gateway", gateway["metadata"]["name"], beside, gateway["spec"]))
    routes = {"spec": {"gateways": [f"{beside}/{names.ISTIOD_GATEWAY}"]}}
    kube.merge_patch("VirtualService", "istiod-vs", routes, "istio-system")
    give([container | {"env": [*container["env"], switch]}])
    try:
        yield
    finally:
        give([container])


def test_gateways_that_take_no_configuration_of_ours_are_not_asked_and_that_is_said(mesh: Mesh, visit: Visit) -> None:
    """Nothing is wrong with such a mesh, and nothing of it can be changed from where probes may be."""
    (visit.folder / "mesh.yaml").write_text(FOUND)
    contexts = ("--context=east=arn:east", "--context=west=arn:west")
    with own_namespace_only(mesh.primaries[0]):
        done = visit.pytest("--topology=mesh.yaml", *contexts, *IMAGES, "-k", "TRAFFIC-01 or TRAFFIC-02", timeout_s=120)
    assert done.returncode == 0, done.stdout + done.stderr
    claims = yaml.safe_load((visit.folder / "reports" / "verdict.yaml").read_text())["topologies"]["mesh"]["claims"]
    assert {code: row["result"] for code, row in claims.items()} == {"TRAFFIC-01": "SKIPPED", "TRAFFIC-02": "SUCCEEDED"}
    assert "istiod of east limits gateways to Gateways of their own namespace" in claims["TRAFFIC-01"]["reason"]
