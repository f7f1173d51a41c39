"""The picture of a topology: what is in it, that nothing in it hides anything, and what of it was proven."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from meshproof import names, pki
from meshproof.certificates import fingerprint
from meshproof.claims import REGISTRY, Family, not_applicable
from meshproof.diagram.build import plan, with_facts, with_results
from meshproof.diagram.canvas import LOOKS, MONO_ADVANCE, clean, fit
from meshproof.diagram.draw import render
from meshproof.diagram.layout import Box, Builder
from meshproof.diagram.picture import Kind, Picture, Proof
from meshproof.diagram.places import BY_CODE, BY_FAMILY, State, places_of, proofs_elsewhere, proofs_on, state_of
from meshproof.facts import PortFacts, ServiceFacts
from meshproof.model import Topology
from meshproof.report.claims_doc import import_suites
from meshproof.report.results import Result
from meshproof.snapshot import Snapshot
from meshproof.topology import available, load_topology
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


@pytest.fixture(params=ALL)
def each_topology(request: pytest.FixtureRequest, tmp_path: Path) -> Topology:
    return load(request.param, tmp_path)


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


# -- what is in it ----------------------------------------------------------------------------------------------------


def test_a_plan_shows_who_is_where_and_who_controls_whom() -> None:
    picture = plan(load_topology("primary-remote-multinet"))
    links = {(link.kind, link.source, link.target, link.ports) for link in picture.links if not link.is_own}
    assert links == {
        (Kind.TRUST, "cluster1", "cluster2", ()),
        (Kind.DISCOVERY, "cluster1", "cluster2", ()),
        (Kind.CONTROL, "cluster1", "cluster2", ()),
        (Kind.CONTROL, "cluster2", "cluster1", (15012, 15017)),
        (Kind.GATEWAY, "cluster1", "cluster2", (15443,)),
        (Kind.GATEWAY, "cluster2", "cluster1", (15443,)),
    }
    shown = texts(parsed(picture))
    for text in ("network network2", "controls cluster1, cluster2", "controlled by cluster1", ":15012 :15017 :15443"):
        assert text in shown


def test_on_one_network_requests_go_from_pod_to_pod_and_primaries_need_no_gateway() -> None:
    picture = plan(load_topology("multi-primary-samenet"))
    assert Kind.GATEWAY not in picture.kinds
    assert {(link.source, link.target) for link in picture.links_of(Kind.DIRECT)} == {
        ("cluster1", "cluster2"),
        ("cluster2", "cluster1"),
    }
    assert {(link.source, link.target) for link in picture.links_of(Kind.CONTROL)} == {
        ("cluster1", "cluster1"),
        ("cluster2", "cluster2"),
    }
    assert not any(cluster.gateway for cluster in picture.clusters)


def test_clusters_of_one_network_stand_side_by_side(tmp_path: Path) -> None:
    picture = plan(load("three-mixed", tmp_path))
    assert [cluster.network for cluster in picture.clusters] == ["network1", "network1", "network2"]


def test_live_facts_are_addresses_ports_versions_and_endpoints() -> None:
    shown = texts(parsed(full(load_topology("primary-remote-multinet"))))
    assert {
        "primary · Kubernetes v1.36.1",
        "198.18.1.1",
        ":15012 :15017 :15443",
        "198.18.2.1",
        ":15443",
        "198.18.1.2 :80 :443",
        "1 of 1 ready, revision default",
        "1 of 4 ready endpoints",
        "3 of 4 ready endpoints",
        "10.2.0.2:8080",
        "and 1 more",
        f"root {fingerprint(ROOT)[:23]}",
    } <= set(shown)


def test_what_should_be_there_and_is_not_is_said_in_words_too() -> None:
    topology = load_topology("primary-remote-multinet")
    snapshot = live(topology)
    bare = replace(snapshot, facts=tuple(replace(f, services=(), pods=(), root_maps={}) for f in snapshot.facts))
    picture = with_facts(plan(topology), bare, {})
    one, two = picture.clusters
    assert one.gateway is not None
    assert one.gateway.lines == (":15012 :15017 :15443", "not there")
    assert (one.gateway.missing, one.istiod.missing, one.clients.missing) == (True, True, True)
    assert not two.istiod.missing, "a remote has none"
    assert "no root" in texts(parsed(picture))


def test_different_roots_are_told() -> None:
    topology = load_topology("multi-primary-samenet")
    snapshot = live(topology)
    other = pki.make_root().cert.public_bytes(Encoding.PEM).decode()
    first = replace(snapshot.facts[0], root_maps={**snapshot.facts[0].root_maps, "three": other})
    picture = with_facts(plan(topology), replace(snapshot, facts=(first, snapshot.facts[1])), {})
    assert picture.clusters[0].trust.lines[-1] == "2 different roots"


# -- how it is drawn --------------------------------------------------------------------------------------------------


def test_the_same_picture_is_the_same_bytes(each_topology: Topology) -> None:
    assert render(full(each_topology, *WORST)) == render(full(each_topology, *WORST))


def test_it_says_in_words_what_it_shows() -> None:
    root = parsed(full(load_topology("primary-remote-multinet"), failed("TRUST-05")))
    assert root.findtext(f"{SVG}title") == "primary-remote-multinet: Primary-remote on different networks"
    told = root.findtext(f"{SVG}desc") or ""
    assert "cluster2 (remote, network2): no istiod controlled by cluster1" in told
    assert told.endswith("TRUST-05 FAILED.")


@pytest.mark.parametrize("bad", [(), WORST], ids=["good", "bad"])
def test_no_box_and_no_label_hides_another(each_topology: Topology, bad: list[Proof]) -> None:
    root = parsed(full(each_topology, *bad, address="a1b2c3-1234567890.elb.eu-central-1.a-very-long-host-name.example"))
    chips, parts = [*boxes(root, "9")], [*boxes(root, "6", fill="#ffffff")]
    assert len(parts) > 5 * len(each_topology.clusters) - 1
    for a, b in [*combinations([*chips, *parts], 2)]:
        assert not overlap(a, b), (a, b)
    width, height = int(root.attrib["width"]), int(root.attrib["height"])
    assert all(box.x >= 0 and box.right <= width and box.bottom <= height for box in (*chips, *parts))
    assert all(0 < float(e.attrib["x"]) < width and 0 < float(e.attrib["y"]) < height for e in root.iter(f"{SVG}text"))


def boxes(root: ElementTree.Element, radius: str, fill: str = "") -> Iterator[Box]:
    for element in root.iter(f"{SVG}rect"):
        if element.get("rx") == radius and fill in element.get("fill", ""):
            x, y, width, height = (int(element.attrib[key]) for key in ("x", "y", "width", "height"))
            yield Box(x=x, y=y, width=width, height=height)


def overlap(a: Box, b: Box) -> bool:
    return a.x < b.right and b.x < a.right and a.y < b.bottom and b.y < a.bottom


def test_no_two_arrows_lie_on_each_other_and_none_goes_through_a_box(each_topology: Topology) -> None:
    layout = Builder(full(each_topology), {}).layout()
    level = [
        (min(a[0], b[0]), max(a[0], b[0]), a[1])
        for wire in layout.wires
        for a, b in pairwise(wire.points)
        if a[1] == b[1]
    ]
    assert level
    for one, other in combinations(level, 2):
        assert one[2] != other[2] or one[1] <= other[0] or other[1] <= one[0], (one, other)
    upright = [
        (min(a[1], b[1]), max(a[1], b[1]), a[0], wire.link.kind)
        for wire in layout.wires
        for a, b in pairwise(wire.points)
        if a[0] == b[0]
    ]
    for first, second in combinations(upright, 2):
        apart = first[2] != second[2] or first[1] <= second[0] or second[1] <= first[0]
        assert apart or first[3] is second[3], "arrows of one kind may share a stem"
    for left, right, y in level:
        for box, part in layout.parts:
            assert not (box.y < y < box.bottom and left < box.right and box.x < right), (part, left, right, y)


def test_every_arrow_ends_at_a_box(each_topology: Topology) -> None:
    layout = Builder(full(each_topology), {}).layout()
    for wire in layout.wires:
        x, y = wire.points[-1]
        assert any(
            (x in (box.x, box.right) and box.y < y < box.bottom) or (y in (box.y, box.bottom) and box.x < x < box.right)
            for box, _ in layout.parts
        ), wire


def test_long_texts_lose_their_middle_and_tell_the_whole_in_a_tooltip(tmp_path: Path) -> None:
    assert fit("short", 100, 11, mono=True) == "short"
    cut = fit("a-load-balancer.example.com", 100, 11, mono=True)
    assert (cut, len(cut) * 11 * MONO_ADVANCE <= 100) == ("a-load-bal….com", True)
    root = parsed(plan(load("three-mixed", tmp_path)))
    assert LONG in {title.text for text in root.iter(f"{SVG}text") for title in text.iter(f"{SVG}title")}


def test_whatever_a_reason_holds_the_svg_is_valid() -> None:
    reason = 'a <b> & "c" \x00\x1b[31m\ud800 \ufffe é 🙂 ]]>'
    root = parsed(full(load_topology("multi-primary-samenet"), failed("TRUST-05", reason)))
    assert 'TRUST-05 FAILED: a <b> & "c" [31m é 🙂 ]]>' in texts(root)
    assert clean("a\nb\t c") == "a b c"


# -- what was proven --------------------------------------------------------------------------------------------------


def test_every_claim_belongs_on_something_that_is_drawn(each_topology: Topology) -> None:
    """Failover is about the mesh as a whole; whatever else applies has its place."""
    picture = plan(each_topology, REGISTRY)
    assert len(picture.proofs) > 40
    assert [p.code for p in proofs_elsewhere(picture) if not p.code.startswith(Family.FAILOVER)] == []
    applying = {claim.code for claim in REGISTRY if not_applicable(claim, each_topology) is None}
    assert {proof.code for proof in picture.proofs} == applying


def test_the_places_name_claims_that_exist_and_every_family() -> None:
    assert sorted(set(BY_CODE) - {claim.code for claim in REGISTRY}) == []
    assert set(Family) - set(BY_FAMILY) == {Family.FAILOVER}
    redundant = [code for code, kinds in BY_CODE.items() if BY_FAMILY[Family(code.partition("-")[0])] == kinds]
    assert redundant == []
    assert places_of("FAILOVER-01") == places_of("NOVEL-01") == ()


@pytest.mark.parametrize(
    ("code", "kinds"),
    [
        ("TRUST-02", {Kind.TRUST}),
        ("DISCOVERY-03", {Kind.DISCOVERY}),
        ("GATEWAYS-02", {Kind.GATEWAY}),
        ("GATEWAYS-04", {Kind.CONTROL}),
        ("TRAFFIC-01", {Kind.REQUESTS}),
        ("CONTROL-06", {Kind.CLUSTER}),
    ],
)
def test_a_failure_marks_its_own_arrows_and_no_others(code: str, kinds: set[Kind]) -> None:
    picture = full(load_topology("primary-remote-multinet"), failed(code))
    states = {kind: state_of(picture, proofs_on(picture, kind)) for kind in picture.kinds}
    assert {kind for kind, state in states.items() if state is State.FAILED} == kinds
    assert {state for kind, state in states.items() if kind not in kinds} == {State.PROVEN}


def test_a_failure_is_told_on_the_arrow_and_beside_it_without_colour() -> None:
    root = parsed(full(load_topology("primary-remote-multinet"), failed("GATEWAYS-02"), failed("TRAFFIC-05", "1 of 2")))
    shown = texts(root)
    assert shown.count("15443 GATEWAYS-02 +1") == 2, "one in each direction"
    assert "TRAFFIC-05 FAILED: 1 of 2" in shown
    assert "2 FAILED" in shown
    wires = [path for path in root.iter(f"{SVG}path") if path.get("stroke") == LOOKS[State.FAILED].colour]
    assert {w.get("stroke-dasharray") for w in wires if w.find(f"{SVG}title") is not None} == {"11 5"}
    ways = {(look.width, look.dashes) for look in LOOKS.values()}
    assert len(ways) == len(LOOKS), "each state is told by width and dashes alone"


def test_what_belongs_nowhere_is_shown_all_the_same() -> None:
    picture = full(
        load_topology("multi-primary-samenet"), failed("GATEWAYS-02"), failed("NOVEL-01"), failed("FAILOVER-01")
    )
    assert {proof.code for proof in proofs_elsewhere(picture) if proof.is_bad} == {
        "GATEWAYS-02",
        "NOVEL-01",
        "FAILOVER-01",
    }
    assert {"GATEWAYS-02", "NOVEL-01", "NOVEL-01 FAILED: it is wrong", "3 FAILED"} <= set(texts(parsed(picture)))


def test_a_run_over_a_selection_leaves_other_arrows_unproven() -> None:
    planned = plan(load_topology("multi-primary-multinet"), REGISTRY)
    assert state_of(planned, proofs_on(planned, Kind.TRUST)) is State.PLANNED
    picture = with_results(
        planned,
        [
            Proof(code="TRUST-02", result=Result.SUCCEEDED),
            Proof(code="TRUST-05", result=Result.SKIPPED),
            Proof(code="TRAFFIC-01", result=Result.BROKEN),
            Proof(code="CONTROL-01", result=Result.NOT_APPLICABLE),
        ],
    )
    states = {kind: state_of(picture, proofs_on(picture, kind)) for kind in picture.kinds}
    assert states == {
        Kind.CLUSTER: State.UNPROVEN,
        Kind.TRUST: State.PROVEN,
        Kind.DISCOVERY: State.UNPROVEN,
        Kind.CONTROL: State.UNPROVEN,
        Kind.GATEWAY: State.UNPROVEN,
        Kind.REQUESTS: State.BROKEN,
    }
    shown = texts(parsed(picture))
    assert {"one root · 1 of 2", "not applicable here: CONTROL-01", "1 BROKEN"} <= set(shown)
    assert "15443" in shown, "an arrow of which nothing is known says no number"
