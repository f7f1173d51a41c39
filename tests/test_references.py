"""What claims are promised by: each cites a page on the web, in a form that can be linked."""

from __future__ import annotations

import re

import pytest

from meshproof.calibration.variants import VARIANTS
from meshproof.claims.claim import REGISTRY, Claim
from meshproof.claims.references import ISTIO, PAGES, cited, linked
from meshproof.claims.suite_run import import_suites

import_suites()

KNOWN = re.compile(
    r"https://(istio\.io/latest/docs|kubernetes\.io/docs|www\.rfc-editor\.org/rfc|www\.envoyproxy\.io/docs|"
    r"github\.com/spiffe/spiffe/blob/main/standards)/[\w./-]+(#[a-z-]+)?"
)


@pytest.mark.parametrize("claim", REGISTRY, ids=lambda claim: claim.code)
def test_a_claim_cites_a_page_and_one_of_istio_wherever_it_says_so(claim: Claim) -> None:
    assert claim.pages
    for source in claim.promised_by.split("; "):
        if source.startswith("istio.io, "):
            assert any(page.url.startswith(ISTIO) for page in cited(source)), f"add it to PAGES: {source}"


def test_every_page_is_cited_and_has_an_address() -> None:
    legal = {page.name for variant in VARIANTS for page in cited(variant.legal)}
    assert {page.name for claim in REGISTRY for page in claim.pages} | legal == set(PAGES)
    for name, url in PAGES.items():
        assert KNOWN.fullmatch(url), f"{name}: {url}"
        assert "#" in url or url.endswith("/") or not url.startswith(ISTIO), f"{name}: {url}"


def test_the_longest_name_counts_behind_a_comma_or_a_colon() -> None:
    promised = "istio.io, Security: Identity; Security best practices; Gateways and security; RFC 5280, RFC 5280"
    assert [page.name for page in cited(promised)] == ["Security, Identity", "Security best practices", "RFC 5280"]
    assert cited("pilot/pkg/security") == ()


def test_links_leave_the_words_as_they_are() -> None:
    text = "istio.io, Security: Identity; xDS protocol, ACK"
    assert linked(text) == (
        f"istio.io, [Security: Identity]({PAGES['Security, Identity']}); [xDS protocol]({PAGES['xDS protocol']}), ACK"
    )
