"""The catalogue of faults: complete, unambiguous, and tied to claims that exist or are known to come."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from meshproof.claims.claim import CODE, REGISTRY, Family, not_applicable
from meshproof.cli.faults import describe_fault
from meshproof.core.errors import BadInput
from meshproof.core.topology import available, load_topology
from meshproof.faults.catalogue import FAULTS, chosen, fault

FIRST_WAVE = {
    *("T1", "T2", "T4", "T6"),
    *("S1", "S3", "S4", "S5", "S7"),
    *("N1", "N2", "N9"),
    *("G1", "G4", "G6", "G12"),
    *("I1", "I2", "I3"),
    *("P1", "P3", "P7", "P8", "F1", "F5", "U2"),
}
"""The first set of faults, taken from reports of users."""

KNOWN = {
    *(f"TRUST-{n:02}" for n in range(1, 13)),
    *(f"DISCOVERY-{n:02}" for n in range(1, 10)),
    *(f"GATEWAYS-{n:02}" for n in range(1, 11)),
    *(f"CONTROL-{n:02}" for n in range(1, 8)),
    *(f"TRAFFIC-{n:02}" for n in range(1, 10)),
}
"""Codes of claims that are written or planned, without those of failover and upgrade."""


@pytest.fixture(scope="module", autouse=True)
def _suites() -> None:
    for path in sorted((Path(__file__).parents[1] / "suites").glob("*/test_*.py")):
        importlib.import_module(f"suites.{path.parent.name}.{path.stem}")


def test_ids_are_unique_and_the_first_wave_is_there() -> None:
    ids = [each.id for each in FAULTS]
    assert len(ids) == len(set(ids))
    assert set(ids) >= FIRST_WAVE
    assert len(set(ids) - FIRST_WAVE) >= 10


@pytest.mark.parametrize("each", FAULTS, ids=lambda each: each.id)
def test_a_fault_has_all_its_texts_and_they_are_short(each: object) -> None:
    from meshproof.faults.fault import Fault

    assert isinstance(each, Fault)
    assert re.fullmatch(r"[A-Z]\d+B?C?", each.id)
    for text in (each.sentence, each.seen, each.source):
        assert text.strip() == text != ""
        assert not text.endswith(".")
    for text in (each.sentence, each.seen, each.note):
        assert len(text.split()) <= 25, text
    assert each.kills, "a fault without a claim that detects it needs one first"
    codes = (*each.kills, *each.also)
    assert all(CODE.fullmatch(code) for code in codes)
    assert {code for code in codes if code not in REGISTRY} <= KNOWN


@pytest.mark.parametrize("each", FAULTS, ids=lambda each: each.id)
def test_a_fault_applies_to_some_topology_and_is_detected_there(each: object) -> None:
    """Wherever the fault applies, a claim that must detect it applies too, or is not written yet."""
    from meshproof.faults.fault import Fault

    assert isinstance(each, Fault)
    here = [t for t in map(load_topology, available()) if each.not_here(t) is None]
    assert here
    for topology in here:
        assert any(code not in REGISTRY or not_applicable(REGISTRY[code], topology) is None for code in each.kills), (
            f"{each.id} on {topology.name}"
        )


def test_a_fault_is_found_in_any_case_and_a_wrong_one_is_rejected() -> None:
    assert fault("s1") is fault("S1")
    assert [each.id for each in chosen("S1, g4,")] == ["S1", "G4"]
    with pytest.raises(BadInput, match=r"fault Z9: there is no fault with this ID\n  repair: use one of T1, "):
        fault("Z9")


def test_a_fault_that_only_drills_detect_runs_only_those() -> None:
    assert fault("S1").drills == ()
    assert fault("D10").drills == ("FAILOVER-06", "FAILOVER-05")
    assert sum(bool(each.drills) for each in FAULTS) >= 8


def test_every_failover_claim_and_the_check_before_an_upgrade_have_a_fault_that_must_turn_them_red() -> None:
    killed = {code for each in FAULTS for code in each.kills}
    assert {"UPGRADE-01", *(each.code for each in REGISTRY if each.family is Family.FAILOVER)} <= killed


def test_how_a_fault_is_listed() -> None:
    text = describe_fault(fault("I2"), fault("I2").not_here(load_topology("multi-primary-samenet")))
    assert text == (
        "I2    the remote's istio-system lacks the annotation topology.istio.io/controlPlaneClusters\n"
        "      user sees   new namespaces get no root certificate, so their pods do not start\n"
        "      detected by CONTROL-02\n"
        "      needs       a remote cluster\n"
        "      not here    every cluster is a primary"
    )
