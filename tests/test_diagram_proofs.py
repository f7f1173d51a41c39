"""Which claim stands on which arrow of a picture, and how its result is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshproof.claims.claim import REGISTRY, Family, not_applicable
from meshproof.claims.results import Result
from meshproof.core.model import Topology
from meshproof.core.topology import load_topology
from meshproof.report.diagram.build import plan, with_results
from meshproof.report.diagram.canvas import LOOKS
from meshproof.report.diagram.claim_edges import (
    BY_CODE,
    BY_FAMILY,
    State,
    places_of,
    proofs_elsewhere,
    proofs_on,
    state_of,
)
from meshproof.report.diagram.model import Kind, Proof
from tests.pictures import ALL, SVG, failed, full, load, parsed, texts


@pytest.fixture(params=ALL)
def each_topology(request: pytest.FixtureRequest, tmp_path: Path) -> Topology:
    return load(request.param, tmp_path)


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
