"""The CA of a mesh in every form that istiod reads, keys of every kind, chains of every length, and external CAs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from meshproof.clients.envoy_admin import Identity
from meshproof.core.errors import ClaimFailed
from meshproof.mesh.ca_files import SELF_SIGNED, CaFiles, external_ca, external_ca_of
from meshproof.mesh.objects import PodFacts
from meshproof.pki.issue import (
    Authority,
    bundle_of,
    key_pem_of,
    make_intermediate,
    make_root,
    make_workload,
    pem_of,
)
from meshproof.pki.verify import CA_KEY, CERT_CHAIN, TLS_FILES, parse_chain, subject, verify_chain
from meshproof.probes.mtls_clients import EXPIRED, OTHER_DOMAIN, PROPER, authority_of, callers
from tests.fakes import pod as fake_pod

NOW = datetime.now(UTC) + timedelta(minutes=30)
MONTH = timedelta(days=30)
APP = "spiffe://cluster.local/ns/meshproof-app/sa/mockshop"
ROOT = make_root()
CA = make_intermediate(ROOT, locality="cluster1")


def tls_files(ca: Authority, root: Authority) -> dict[str, bytes]:
    """As cert-manager writes them: the chain in tls.crt, without the root."""
    chain = b"".join(pem_of(cert) for cert in (ca.cert, *ca.above) if cert != root.cert)
    return {"tls.crt": chain, "tls.key": key_pem_of(ca.key), "ca.crt": pem_of(root.cert)}


def identity(ca: Authority, *, above: bool = True) -> Identity:
    chain = parse_chain(make_workload(ca, APP)[0])
    return Identity(chain=chain if above else chain[:1], roots=(ROOT.cert,))


def istiod(**env: str) -> PodFacts:
    return replace(fake_pod("istiod"), istiod_env=env)


# -- forms ------------------------------------------------------------------------------------------------------------


def test_a_secret_of_type_tls_is_a_ca() -> None:
    ca = CaFiles(files=tls_files(CA, ROOT))
    assert ca.problems(NOW, MONTH) == []
    assert (ca.form, ca.issuer, ca.roots) == ("istio-system/cacerts (tls.crt)", CA.cert, (ROOT.cert,))
    assert ca.chain == (CA.cert, ROOT.cert)


def test_our_bundles_can_be_written_in_that_form() -> None:
    region = make_intermediate(ROOT, locality="region", path_length=1)
    bundle = bundle_of(make_intermediate(region, locality="cluster1"))
    assert CaFiles(files=bundle.files(TLS_FILES)).problems(NOW, MONTH) == []
    assert bundle.files(TLS_FILES)["tls.crt"] == b"".join(pem_of(c) for c in parse_chain(bundle.cert_chain)[:2])
    assert set(bundle.files()) == {"ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"}


def test_what_is_missing_or_wrong_in_it_has_the_names_of_its_form() -> None:
    whole = tls_files(CA, ROOT)
    assert CaFiles(files={"tls.crt": whole["tls.crt"], "tls.key": whole["tls.key"]}).problems(NOW, MONTH) == [
        "ca.crt is missing"
    ]
    other = key_pem_of(make_root().key)
    assert CaFiles(files={**whole, "tls.key": other}).problems(NOW, MONTH) == [
        f"tls.key does not match tls.crt ({subject(CA.cert)})"
    ]
    (foreign,) = CaFiles(files={**whole, "ca.crt": pem_of(make_root().cert)}).problems(NOW, MONTH)
    assert foreign.startswith(f"the signature on {subject(CA.cert)} does not verify")


def test_istiod_prefers_tls_crt_whatever_else_is_in_the_secret() -> None:
    ca = CaFiles(files={**bundle_of(make_intermediate(make_root(), locality="old")).files(), **tls_files(CA, ROOT)})
    assert ca.issuer == CA.cert


def test_the_self_signed_ca_is_its_own_root() -> None:
    files = {"ca-cert.pem": pem_of(ROOT.cert), "ca-key.pem": key_pem_of(ROOT.key), "root-cert.pem": b""}
    ca = CaFiles(files=files, secret=SELF_SIGNED)
    assert ca.problems(NOW, MONTH) == []
    assert (ca.form, ca.issuers, ca.roots) == ("istio-system/istio-ca-secret (self-signed)", (ROOT.cert,), (ROOT.cert,))


def test_the_order_of_a_chain_and_more_than_the_ca_in_its_file_are_no_problem() -> None:
    files = bundle_of(CA).files()
    assert CaFiles(files={**files, CERT_CHAIN: pem_of(ROOT.cert) + pem_of(CA.cert)}).problems(NOW, MONTH) == []
    both = {**files, "ca-cert.pem": pem_of(CA.cert) + pem_of(ROOT.cert)}
    assert CaFiles(files=both).problems(NOW, MONTH) == []
    assert len(CaFiles(files={**both, "ca-cert.pem": pem_of(ROOT.cert) + pem_of(CA.cert)}).problems(NOW, MONTH)) == 1


def test_two_intermediates() -> None:
    region = make_intermediate(ROOT, locality="region", path_length=1)
    ca = CaFiles(files=tls_files(long := make_intermediate(region, locality="cluster1"), ROOT))
    assert ca.problems(NOW, MONTH) == []
    leaf, *above = parse_chain(make_workload(authority_of(ca), APP)[0])
    assert ca.leaf_problems(leaf, (), NOW) == []
    assert verify_chain(leaf, above, (ROOT.cert,), NOW) == []
    assert len(ca.leaf_problems(parse_chain(make_workload(region, APP)[0])[0], (), NOW)) == 1
    assert long.cert in above


# -- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()])
def test_our_clients_are_signed_with_ec_keys_too(curve: ec.EllipticCurve) -> None:
    root = make_root(key=ec.generate_private_key(curve))
    signer = make_intermediate(root, locality="cluster1", key=ec.generate_private_key(curve))
    ca = CaFiles(files=bundle_of(signer).files())
    assert ca.problems(NOW, MONTH) == []
    made = callers(ca, "cluster.local")
    for name in (PROPER, EXPIRED, OTHER_DOMAIN):
        found = made[name]
        assert found is not None
        parse_chain(found.leaf)[0].verify_directly_issued_by(signer.cert)


def test_a_key_that_envoy_does_not_know_is_a_failure_without_its_text() -> None:
    pem = ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(ClaimFailed, match=r"ca-key\.pem of secret cacerts is neither an RSA nor an EC key") as caught:
        authority_of(CaFiles(files={**bundle_of(CA).files(), CA_KEY: pem}))
    assert "PRIVATE" not in str(caught.value)


# -- external CAs -----------------------------------------------------------------------------------------------------


def test_istiod_tells_of_an_external_ca() -> None:
    assert external_ca_of([istiod(), istiod(ENABLE_CA_SERVER="true")]) == ""
    assert external_ca_of([istiod(EXTERNAL_CA="ISTIOD_RA_KUBERNETES_API")]) == "EXTERNAL_CA=ISTIOD_RA_KUBERNETES_API"
    assert external_ca_of([istiod(ENABLE_CA_SERVER="false")]) == "ENABLE_CA_SERVER=false"


def test_an_external_ca_is_known_by_what_it_issued() -> None:
    held, published = identity(CA), pem_of(ROOT.cert).decode()
    ca = external_ca("EXTERNAL_CA=X", [held, held], published, [published])
    assert (ca.form, ca.issuers, ca.problems(NOW, MONTH)) == ("external CA (EXTERNAL_CA=X)", (CA.cert,), [])
    assert ca.leaf_problems(held.leaf, held.chain[1:], NOW) == []
    stranger = identity(make_intermediate(make_root(), locality="cluster1"))
    (problem,) = ca.leaf_problems(stranger.leaf, stranger.chain[1:], NOW)
    assert "is not one of the roots" in problem or "does not verify" in problem


def test_what_is_wrong_with_an_external_ca_is_found() -> None:
    published = pem_of(ROOT.cert).decode()
    other = make_root(common_name="Other Root")
    assert external_ca("X", [identity(CA)], "", []).problems(NOW, MONTH)[0] == (
        "no root in ConfigMap istio-ca-root-cert of istio-system"
    )
    assert external_ca("X", [identity(CA)], published, [pem_of(other.cert).decode()]).problems(NOW, MONTH) == [
        f"{subject(ROOT.cert)} is published, but not in caCertificates of the mesh configuration"
    ]
    (wrong,) = external_ca("X", [identity(CA)], pem_of(other.cert).decode(), []).problems(NOW, MONTH)
    assert "is not one of the roots" in wrong
    leafs_only = external_ca("X", [identity(CA, above=False)], published, [])
    (problem,) = leafs_only.leaf_problems(identity(CA).leaf, (), NOW)
    assert problem == f"the issuer of {APP} is missing: {subject(CA.cert)}"
    dying = make_root(life=timedelta(days=10))
    (soon,) = external_ca("X", [], pem_of(dying.cert).decode(), []).problems(NOW, MONTH)
    assert "within 30 days" in soon


def test_an_issuing_ca_that_its_signer_renews_may_end_soon() -> None:
    short = make_intermediate(ROOT, locality="cluster1", life=timedelta(days=2))
    ca = external_ca("X", [identity(short)], pem_of(ROOT.cert).decode(), [])
    assert ca.problems(NOW, MONTH) == []
    (line,) = ca.expiring(NOW, MONTH)
    assert line.startswith(f"{subject(short.cert)} expires at ")
