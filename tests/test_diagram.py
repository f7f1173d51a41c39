"""The picture of a topology: what is in it, and that nothing in it hides anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from meshproof.core.model import Topology
from meshproof.core.topology import load_topology
from meshproof.pki import issue as pki
from meshproof.pki.verify import fingerprint
from meshproof.report.diagram.build import plan, with_facts
from meshproof.report.diagram.canvas import MONO_ADVANCE, clean, fit
from meshproof.report.diagram.layout import Box, Builder
from meshproof.report.diagram.model import Kind, Proof
from meshproof.report.diagram.svg import render
from tests.pictures import ALL, LONG, ROOT, SVG, WORST, failed, full, live, load, parsed, texts


@pytest.fixture(params=ALL)
def each_topology(request: pytest.FixtureRequest, tmp_path: Path) -> Topology:
    return load(request.param, tmp_path)


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
    assert one.gateway.lines == (":15012 :15017 :15443", "missing")
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
