"""Pictures of made-up meshes: topologies of two to five clusters, with live facts and results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from cryptography.hazmat.primitives.serialization import Encoding

from meshproof.claims.claim import REGISTRY
from meshproof.claims.results import Result
from meshproof.claims.suite_run import import_suites
from meshproof.core import names
from meshproof.core.model import Topology
from meshproof.core.topology import available, load_topology
from meshproof.mesh.objects import PortFacts, ServiceFacts
from meshproof.mesh.snapshot import Snapshot
from meshproof.pki import issue as pki
from meshproof.report.diagram.build import plan, with_facts, with_results
from meshproof.report.diagram.model import Picture, Proof
from meshproof.report.diagram.svg import render
from tests.fakes import facts_of, mesh_of, pod

import_suites()

SVG = "{http://www.w3.org/2000/svg}"
LONG = "a-cluster-whose-name-is-as-long-as-names-of-clusters-may-be-eu1"
"""63 characters."""

# name, role, number of the network, control plane
CLUSTERS = {
    "three-primaries": (("c1", "primary", 1, ""), ("c2", "primary", 2, ""), ("c3", "primary", 3, "")),
    "three-mixed": ((LONG, "primary", 1, ""), ("c2", "remote", 2, LONG), ("c3", "remote", 1, LONG)),
    "five": (
        ("c1", "primary", 1, ""),
        ("c2", "remote", 1, "c4"),
        ("c3", "remote", 2, "c1"),
        ("c4", "primary", 2, ""),
        ("c5", "remote", 3, "c1"),
    ),
}
ALL = (*available(), *CLUSTERS)


def load(name: str, folder: Path) -> Topology:
    if name in available():
        return load_topology(name)
    lines = ["title: Many", "mesh_id: mesh1", "trust_domain: cluster.local", "clusters:"]
    for number, (cluster, role, network, primary) in enumerate(CLUSTERS[name], start=1):
        lines += [f"- name: {cluster}", f"  role: {role}", f"  network: network{network}", f"  app_version: v{number}"]
        lines += [f"  control_plane: {primary}"] if primary else []
    path = folder / f"{name}.yaml"
    path.write_text("\n".join(lines))
    return load_topology(str(path))


def live(topology: Topology, address: str = "") -> Snapshot:
    """Gateways with the ports that are needed at 198.18.<n>.1, or all at `address`; ingress at 198.18.<n>.2."""
    mesh, root = mesh_of(str(topology.source)), ROOT.public_bytes(Encoding.PEM).decode()
    found = []
    for number, cluster in enumerate(mesh.clusters, start=1):
        facts, spec = facts_of(cluster, number, pods=2 * number - 1), cluster.spec
        ports = [15021] + [15443] * topology.exposes_services(spec) + [15012, 15017] * topology.exposes_istiod(spec)
        east_west = with_ports(facts.services[0], names.EAST_WEST, address or f"198.18.{number}.1", ports)
        ingress = with_ports(facts.services[0], names.INGRESS, f"198.18.{number}.2", [80, 443, 15021])
        pods = [pod("client-1", names.CLIENT_NAMESPACE, f"10.{number}.0.9", app="client")]
        if cluster.is_primary:
            pods += [replace(pod("istiod-1", names.SYSTEM_NAMESPACE, app="istiod"), proxy_env=None)]
        needed = topology.needs_east_west_gateway(spec)
        services = (east_west, ingress) if needed else (ingress,)
        found.append(replace(facts, services=services, pods=tuple(pods), root_maps={"one": root, "two": root}))
    return Snapshot(mesh=mesh, facts=tuple(found))


ROOT = pki.make_root().cert


def with_ports(service: ServiceFacts, name: str, address: str, ports: list[int]) -> ServiceFacts:
    told = tuple(PortFacts(name="", number=number) for number in ports)
    return replace(service, name=name, addresses=(address,), ports=told)


def full(topology: Topology, *bad: Proof, address: str = "") -> Picture:
    """Live facts, and every claim succeeded but for these."""
    picture = with_facts(
        plan(topology, REGISTRY), live(topology, address), {c.name: "v1.36.1" for c in topology.clusters}
    )
    good = [replace(proof, result=Result.SUCCEEDED) for proof in picture.proofs]
    return with_results(with_results(picture, good), bad)


def parsed(picture: Picture) -> ElementTree.Element:
    return ElementTree.fromstring(render(picture))


def texts(root: ElementTree.Element) -> list[str]:
    return ["".join(element.itertext()) for element in root.iter(f"{SVG}text")]


def failed(code: str, text: str = "it is wrong") -> Proof:
    return Proof(code=code, result=Result.FAILED, text=text)


WORST = [failed(code, "very " * 99) for code in ("TRUST-05", "DISCOVERY-03", "CONTROL-02", "TRAFFIC-05", "TRAFFIC-06")]
