"""Claims as records: what may be declared, to what a claim applies, and how the list reads."""

from __future__ import annotations

from dataclasses import replace

import pytest

from meshproof.claims.claim import (
    ACROSS_NETWORKS,
    EVERYWHERE,
    REMOTES,
    TWO_PRIMARIES,
    Claim,
    Family,
    Need,
    Registry,
    claim,
    claim_of,
    not_applicable,
)
from meshproof.core.errors import Broken
from meshproof.core.topology import available, load_topology
from meshproof.faults.catalogue import FAULTS
from tools.docs.claims import render


def made(code: str = "TRUST-01", *, needs: tuple[Need, ...] = (EVERYWHERE,), disruptive: bool = False) -> Claim:
    return Claim(
        code=code,
        sentence="it holds",
        promised_by="RFC 5280",
        hint="look there",
        needs=needs,
        disruptive=disruptive,
    )


def test_a_declared_claim_is_on_the_function_and_in_the_registry() -> None:
    registry = Registry()

    @claim("TRUST-02", "one root", promised_by="RFC 5280", hint="compare", needs=REMOTES, registry=registry)
    def test_one_root() -> None: ...

    record = claim_of(test_one_root)
    assert record is registry["TRUST-02"]
    assert (record.sentence, record.needs, record.disruptive) == ("one root", (REMOTES,), False)
    assert str(record) == "TRUST-02 one root"
    assert claim_of(made) is None


def test_a_claim_that_disrupts_or_says_so_is_not_proven_beside_others() -> None:
    assert made().concurrent
    assert not made(disruptive=True).concurrent
    assert not replace(made(), serial=True).concurrent


def test_two_functions_may_not_have_one_code() -> None:
    registry = Registry()
    registry.add(made(), "suites.trust.test_a.test_one")
    with pytest.raises(Broken) as caught:
        registry.add(made(), "suites.trust.test_a.test_two")
    assert str(caught.value) == (
        "claim TRUST-01 at suites.trust.test_a.test_two: suites.trust.test_a.test_one has this code\n"
        "  repair: use the next free number"
    )


def test_a_module_that_is_imported_again_declares_the_same_claims() -> None:
    registry = Registry()
    registry.add(made(), "suites.trust.test_a.test_one")
    registry.add(made(), "suites.trust.test_a.test_one")
    assert len(registry) == 1


@pytest.mark.parametrize("code", ["TRUST-1", "TRUST-001", "trust-01", "LOVE-01", "TRUST01", "TRUST-01\n", ""])
def test_a_malformed_code_is_refused(code: str) -> None:
    with pytest.raises(Broken, match="a code is a family, a dash and two digits"):
        Registry().add(made(code), "suites.test_x")


@pytest.mark.parametrize("field", ["sentence", "promised_by", "hint"])
def test_a_claim_says_what_who_and_what_to_do(field: str) -> None:
    texts = {"sentence": "it holds", "promised_by": "RFC 5280", "hint": "look there", field: "  "}
    decorate = claim(
        "TRUST-01", texts["sentence"], promised_by=texts["promised_by"], hint=texts["hint"], registry=Registry()
    )
    with pytest.raises(Broken, match=f"{field} is empty"):
        decorate(made)


def test_the_registry_is_in_the_order_of_the_families() -> None:
    registry = Registry()
    for code in ("UPGRADE-01", "FAILOVER-02", "FAILOVER-01", "TRUST-01"):
        registry.add(made(code), code)
    assert [c.code for c in registry] == ["TRUST-01", "FAILOVER-01", "FAILOVER-02", "UPGRADE-01"]
    assert "TRUST-01" in registry
    assert "TRUST-02" not in registry


APPLIES = {
    EVERYWHERE: set(available()),
    ACROSS_NETWORKS: {"primary-remote-multinet", "multi-primary-multinet"},
    REMOTES: {"primary-remote-multinet", "primary-remote-samenet"},
    TWO_PRIMARIES: {"multi-primary-multinet", "multi-primary-samenet"},
}


@pytest.mark.parametrize("need", APPLIES, ids=lambda need: need.name)
def test_each_need_picks_its_topologies(need: Need) -> None:
    record = made(needs=(need,))
    assert {name for name in available() if not_applicable(record, load_topology(name)) is None} == APPLIES[need]


def test_the_reason_names_the_first_need_that_is_not_met() -> None:
    record = made(needs=(REMOTES, ACROSS_NETWORKS))
    assert not_applicable(record, load_topology("primary-remote-multinet")) is None
    assert (
        not_applicable(record, load_topology("primary-remote-samenet"))
        == "primary-remote-samenet: all clusters are on one network"
    )
    assert (
        not_applicable(record, load_topology("multi-primary-samenet"))
        == "multi-primary-samenet: every cluster is a primary"
    )


def registered(*records: Claim) -> Registry:
    registry = Registry()
    for record in records:
        registry.add(record, f"suites.trust.test_{record.code.lower().replace('-', '_')}.test_it")
    return registry


def test_the_list_of_claims_reads_well() -> None:
    settings = "aliases: any of them"
    disruptive = made("FAILOVER-01", needs=(TWO_PRIMARIES, ACROSS_NETWORKS), disruptive=True)
    records = (replace(made("TRUST-01"), settings=settings), disruptive)
    text = render(registered(*records), FAULTS)
    assert text.startswith("# Claims\n")
    head = (
        "| code | claim | applies to | promised by | if it fails | mutants | settings that change it |\n"
        "|---|---|---|---|---|---|---|\n"
    )
    assert f"## TRUST\n\n{head}" in text
    page = "[RFC 5280](https://www.rfc-editor.org/rfc/rfc5280)"
    mutants = ", ".join(fault.id for fault in FAULTS if "TRUST-01" in fault.kills)
    code = '[TRUST-01](../suites/trust/test_trust_01.py)<a id="TRUST-01"></a>'
    assert f"| {code} | it holds | every topology | {page} | look there | {mutants} | {settings} |\n" in text
    needs = "at least two primaries and more than one network"
    code = '[FAILOVER-01](../suites/trust/test_failover_01.py) ⚡<a id="FAILOVER-01"></a>'
    assert f"| {code} | it holds | {needs} | {page} | look there | " in text
    assert "## DISCOVERY" not in text
    assert text.index("## TRUST") < text.index("## FAILOVER")


def test_a_bar_in_a_sentence_does_not_split_its_cell() -> None:
    record = Claim(code="TRUST-01", sentence="a|b\nc", promised_by="p", hint="h", needs=(EVERYWHERE,), disruptive=False)
    assert "| a\\|b c |" in render(registered(record), ())


def test_families_are_those_of_the_codes() -> None:
    assert [made(f"{family}-07").family for family in Family] == list(Family)
