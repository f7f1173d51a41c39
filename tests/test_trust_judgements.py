"""How the claims of trust judge what they saw."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from meshproof.clients.istio.istiod_debug import TrustDomains, parse_trust_domains
from meshproof.core.errors import Broken
from meshproof.gateways.passthrough import passthrough_problems
from meshproof.pki.issue import Authority, make_intermediate, make_root, make_workload
from meshproof.pki.verify import parse_chain, subject
from meshproof.probes.clock_skew import Skew, node_skew, server_skew
from meshproof.probes.mtls_clients import NOBODY, PROPER, WRONG_ROOT, AttemptReply
from meshproof.probes.tls import TlsAnswer
from meshproof.trust import trust_domains
from meshproof.trust.clocks import clock_problems
from meshproof.trust.istiod_certificates import serving_problems
from meshproof.trust.refused_clients import caller_problems
from meshproof.trust.trust_domains import domain_problems
from meshproof.trust.workload_certificates import longest_life, presented_problems, svid_problems
from tests.fakes import LocalKube, pod, snapshot_of

APP = "spiffe://cluster.local/ns/meshproof/sa/app"
REFUSED = AttemptReply(tls=TlsAnswer(chain=(), requests_client_certificate=False, reason="connection reset"), status=0)
ANSWERED = AttemptReply(tls=TlsAnswer(chain=(), requests_client_certificate=True), status=200)


def test_strangers_must_be_refused_and_the_proper_caller_answered() -> None:
    assert caller_problems(PROPER, ANSWERED) == caller_problems(WRONG_ROOT, REFUSED) == []
    assert caller_problems(NOBODY, ANSWERED) == ["was not rejected (HTTP 200)"]
    assert caller_problems(PROPER, REFUSED) == [
        "positive control failed: a client with a valid certificate was rejected (refused (connection reset))"
    ]


def domains(own: str, *aliases: str) -> TrustDomains:
    return TrustDomains(own=own, aliases=frozenset(aliases))


def test_trust_domains_are_equal_or_mutual_aliases() -> None:
    assert domain_problems({"a": domains("x"), "b": domains("x")}, "x") == {"a": [], "b": []}
    assert domain_problems({"a": domains("x", "y"), "b": domains("y", "x")}, "x") == {"a": [], "b": []}
    assert domain_problems({"a": domains("x", "y"), "b": domains("y")}, "y") == {
        "a": [],
        "b": ["its trust domain is y: it rejects x of a"],
    }
    assert domain_problems({"a": domains("x")}, "z") == {"a": ["its trust domain is x, the topology's is z"]}


def test_a_mesh_configuration_tells_its_trust_domain() -> None:
    found = parse_trust_domains('{"trustDomain": "a", "trustDomainAliases": ["c", "b"]}')
    assert str(found) == "a (aliases b, c)"
    assert parse_trust_domains("trustDomain: a\n") == domains("a")
    with pytest.raises(Broken, match="not a mapping"):
        parse_trust_domains("nothing")


def test_a_clock_is_known_only_to_the_second() -> None:
    skew = Skew.of(100, sent=100.2, received=100.5)
    assert str(skew) == "-0.5 to +0.8 s"
    assert skew.problems(5) == []
    assert Skew.of(110, sent=100.0, received=100.5).problems(5) == ["at least 9.5 s ahead of the runner"]
    assert Skew.of(90, sent=100.0, received=100.5).problems(5) == ["at least 9.0 s behind the runner"]


def test_clocks_that_are_each_near_the_runner_may_be_far_apart() -> None:
    early, late = Skew(least_s=-5, most_s=-4), Skew(least_s=4, most_s=5)
    assert clock_problems({"one": early, "other": late}, 5) == {"one": ["at least 8.0 s from the other"], "other": []}
    assert clock_problems({"one": early, "other": early}, 5) == {"one": [], "other": []}


def test_clocks_are_read_from_servers_and_pods() -> None:
    class Clock(LocalKube):
        said = "Tue, 24 Nov 2026 19:00:00 GMT"

        def clock(self) -> str:
            return self.said

    kube = Clock()
    assert server_skew(kube).most_s - server_skew(kube).least_s >= 1
    kube.said = "soon"
    with pytest.raises(Broken, match="Date: 'soon'"):
        server_skew(kube)
    assert node_skew(LocalKube(), pod("client")).problems(2) == []


def served(issuer: Authority, *names: str) -> x509.Certificate:
    now = datetime.now(UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.cert.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
    )
    return builder.sign(issuer.key, hashes.SHA256())


def test_istiod_must_show_the_dialled_name_under_the_mesh_root() -> None:
    root = make_root()
    issuer = make_intermediate(root, locality="cluster1")
    answer = TlsAnswer(chain=(served(issuer, "istiod.istio-system.svc"), issuer.cert), requests_client_certificate=True)
    now = datetime.now(UTC)
    assert serving_problems(answer, "istiod.istio-system.svc", (root.cert,), now) == []
    assert serving_problems(answer, "istiod-x.istio-system.svc", (root.cert,), now) == [
        "its certificate names istiod.istio-system.svc, not istiod-x.istio-system.svc"
    ]
    (foreign,) = serving_problems(answer, "istiod.istio-system.svc", (make_root().cert,), now)
    assert "does not verify" in foreign or "is not there" in foreign
    refused = TlsAnswer(chain=(), requests_client_certificate=False, reason="timed out")
    assert serving_problems(refused, "istiod.istio-system.svc", (root.cert,), now) == ["refused (timed out)"]


def test_a_workload_is_met_under_its_own_name_and_both_roots() -> None:
    root = make_root()
    issuer, other = make_intermediate(root, locality="cluster1"), make_intermediate(root, locality="cluster2")
    leaf, *_ = parse_chain(make_workload(issuer, APP)[0])
    answer, now = TlsAnswer(chain=(leaf, issuer.cert), requests_client_certificate=True), datetime.now(UTC)
    assert presented_problems(answer, {APP}, (issuer.cert,), (root.cert,), now) == []
    assert presented_problems(REFUSED.tls, {APP}, (issuer.cert,), (root.cert,), now) == ["refused (connection reset)"]
    assert presented_problems(answer, set(), (issuer.cert,), (root.cert,), now) == [
        f"presented {subject(leaf)}, not a ready pod"
    ]
    assert len(presented_problems(answer, {APP}, (other.cert,), (root.cert,), now)) == 1
    assert len(presented_problems(answer, {APP}, (issuer.cert,), (make_root().cert,), now)) == 1
    assert svid_problems(leaf, APP, (issuer.cert,)) == []
    assert len(svid_problems(leaf, APP + "-2", (issuer.cert,))) == 1


def test_a_gateway_passes_on_the_certificate_of_the_workload_and_the_request_for_the_clients() -> None:
    issuer = make_intermediate(make_root(), locality="cluster1")
    leaf, *_ = parse_chain(make_workload(issuer, APP)[0])
    prefix = APP.removesuffix("sa/app")
    assert passthrough_problems(TlsAnswer(chain=(leaf,), requests_client_certificate=True), prefix) == []
    assert passthrough_problems(
        TlsAnswer(chain=(leaf,), requests_client_certificate=False), "spiffe://cluster.local/ns/other/"
    ) == [
        f"presents {subject(leaf)}",
        "it does not request a client certificate",
    ]
    assert passthrough_problems(REFUSED.tls, prefix) == ["refused (connection reset)"]


@pytest.mark.parametrize(
    ("istiod", "proxy", "external", "days"),
    [
        ({}, {}, False, 25 / 24),
        ({"DEFAULT_WORKLOAD_CERT_TTL": "48h0m0s"}, {}, False, 49 / 24),
        ({"DEFAULT_WORKLOAD_CERT_TTL": "12h"}, {"SECRET_TTL": "72h"}, False, 73 / 24),
        ({"DEFAULT_WORKLOAD_CERT_TTL": "forever"}, {}, False, 25 / 24),
        ({"DEFAULT_WORKLOAD_CERT_TTL": "87600h"}, {}, False, 90),
        ({}, {}, True, 90),
    ],
)
def test_certificates_may_live_as_long_as_configured(
    istiod: dict[str, str], proxy: dict[str, str], external: bool, days: float
) -> None:
    assert longest_life(istiod, proxy, external=external) == timedelta(days=days)


def test_each_cluster_has_the_trust_domain_of_its_control_plane_if_all_accept_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """T6: without aliases the topology's stays the one that is wanted."""
    snapshot = snapshot_of("multi-primary-multinet")
    known = {"cluster1 istiod-a": domains("cluster.local", "other.local"), "cluster2 istiod-b": domains("other.local")}
    monkeypatch.setattr(trust_domains, "domains_in_use", lambda _: known)
    assert set(trust_domains.domain_of_each(snapshot).values()) == {"cluster.local"}
    known["cluster2 istiod-b"] = domains("other.local", "cluster.local")
    assert trust_domains.domain_of_each(snapshot) == {"cluster1": "cluster.local", "cluster2": "other.local"}
