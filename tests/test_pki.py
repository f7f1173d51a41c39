"""The CAs that we make are what Istio wants, and every class of problem in somebody else's is found."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from meshproof.pki.issue import (
    Authority,
    bundle_of,
    make_intermediate,
    make_root,
    make_workload,
    pem_of,
    plugin_ca,
)
from meshproof.pki.verify import (
    check_ca_bundle,
    fingerprint,
    key_usage_problems,
    lifetime_problems,
    parse_chain,
    san_problems,
    spiffe_ids,
    subject,
    verify_chain,
)

NOW = datetime.now(UTC) + timedelta(minutes=30)
"""Later than anything that is made while the tests run, which may come minutes after this was read."""
MONTH = timedelta(days=30)
DAY = timedelta(days=1)
SPIFFE = "spiffe://cluster.local/ns/meshproof-app/sa/mockshop"

SMALL_KEY = rsa.generate_private_key(public_exponent=65537, key_size=1024)


@pytest.fixture(scope="module")
def root() -> Authority:
    return make_root()


@pytest.fixture(scope="module")
def other_root() -> Authority:
    return make_root()


@pytest.fixture(scope="module")
def cluster1(root: Authority) -> Authority:
    return make_intermediate(root, locality="cluster1")


def resigned(
    cert: x509.Certificate,
    issuer: Authority,
    *,
    drop: type[x509.ExtensionType] | None = None,
    add: tuple[x509.ExtensionType, ...] = (),
    key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey | None = None,
) -> x509.Certificate:
    """`cert` with something else about it, signed by `issuer` again."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(cert.subject)
        .issuer_name(issuer.cert.subject)
        .serial_number(x509.random_serial_number())
        .not_valid_before(cert.not_valid_before_utc)
        .not_valid_after(cert.not_valid_after_utc)
    )
    public = cert.public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    builder = builder.public_key(key or public)
    for extension in cert.extensions:
        if drop is None or not isinstance(extension.value, drop):
            builder = builder.add_extension(extension.value, extension.critical)
    for value in add:
        builder = builder.add_extension(value, critical=False)
    return builder.sign(issuer.key, hashes.SHA256())


def problems(files: Mapping[str, bytes], *, now: datetime = NOW, horizon: timedelta = MONTH) -> list[str]:
    return check_ca_bundle(files, now, horizon)


# -- what we make -----------------------------------------------------------------------------------------------------


def test_our_own_bundle_has_no_problem(root: Authority) -> None:
    assert problems(plugin_ca(root, "cluster1").files()) == []


def test_names_are_those_of_the_book(root: Authority, cluster1: Authority) -> None:
    def parts(name: x509.Name) -> dict[str, str]:
        return {attribute.rfc4514_attribute_name: str(attribute.value) for attribute in name}

    assert parts(root.cert.subject) == {"O": "Istio", "CN": "Root CA"}
    assert parts(cluster1.cert.subject) == {"O": "Istio", "CN": "Intermediate CA", "L": "cluster1"}


def test_the_chain_is_intermediate_and_root(root: Authority, cluster1: Authority) -> None:
    bundle = bundle_of(cluster1)
    assert parse_chain(bundle.cert_chain) == (cluster1.cert, root.cert)
    assert parse_chain(bundle.root_cert) == (root.cert,)
    assert parse_chain(bundle.ca_cert) == (cluster1.cert,)


def test_the_key_is_in_a_form_that_every_istiod_reads(cluster1: Authority) -> None:
    assert bundle_of(cluster1).ca_key.startswith(b"-----BEGIN RSA PRIVATE KEY-----\n")


def test_secret_data_is_the_files_in_base64(cluster1: Authority) -> None:
    bundle = bundle_of(cluster1)
    data = bundle.secret_data()
    assert sorted(data) == ["ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"]
    assert {name: base64.b64decode(text) for name, text in data.items()} == bundle.files()


def test_no_key_is_ever_shown(cluster1: Authority) -> None:
    bundle = bundle_of(cluster1)
    shown = f"{bundle!r} {bundle} {cluster1!r} {cluster1} {[bundle]} {bundle!s:>5}"
    assert "PRIVATE" not in shown
    assert bundle.ca_key.splitlines()[1].decode() not in shown
    assert fingerprint(cluster1.cert) in shown


def test_an_intermediate_ends_no_later_than_its_root() -> None:
    root = make_root(life=10 * DAY)
    assert make_intermediate(root, locality="cluster1").cert.not_valid_after_utc == root.cert.not_valid_after_utc


def test_a_workload_we_make_is_one_that_we_accept(root: Authority, cluster1: Authority) -> None:
    pem, _ = make_workload(cluster1, SPIFFE)
    leaf, *above = parse_chain(pem)
    assert spiffe_ids(leaf) == (SPIFFE,)
    assert subject(leaf) == SPIFFE
    assert verify_chain(leaf, above, [root.cert], NOW) == []
    assert san_problems(leaf, SPIFFE) == []
    assert key_usage_problems(leaf) == []
    assert lifetime_problems(leaf, cluster1.cert, longest=DAY) == []


def test_a_fingerprint_looks_like_that_of_openssl(root: Authority) -> None:
    shown = fingerprint(root.cert)
    assert bytes.fromhex(shown.replace(":", "")) == root.cert.fingerprint(hashes.SHA256())
    assert shown == shown.upper()
    assert shown.count(":") == 31


# -- problems of a bundle ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"])
def test_a_missing_or_empty_file_is_named(cluster1: Authority, name: str) -> None:
    files = bundle_of(cluster1).files()
    assert problems({**files, name: b""}) == [f"{name} is missing"]
    del files[name]
    assert problems(files) == [f"{name} is missing"]


def test_an_unreadable_certificate_is_named(cluster1: Authority) -> None:
    (problem,) = problems({**bundle_of(cluster1).files(), "cert-chain.pem": b"-----BEGIN NOTHING-----"})
    assert problem.startswith("cert-chain.pem cannot be read: ")


def test_a_key_of_another_certificate_is_found(root: Authority, cluster1: Authority) -> None:
    files = {**bundle_of(cluster1).files(), "ca-key.pem": bundle_of(root).ca_key}
    assert problems(files) == ["ca-key.pem does not match ca-cert.pem (L=cluster1,CN=Intermediate CA,O=Istio)"]


def test_an_unreadable_key_is_named_but_not_shown(cluster1: Authority) -> None:
    encrypted = cluster1.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    files = bundle_of(cluster1).files()
    assert problems({**files, "ca-key.pem": encrypted}) == ["ca-key.pem cannot be read: it is encrypted"]
    assert problems({**files, "ca-key.pem": b"hunter2"}) == ["ca-key.pem cannot be read: it is not a PEM private key"]


def test_a_root_that_is_not_the_chain_s_is_found(other_root: Authority, cluster1: Authority) -> None:
    """The two roots have the same name, which is how a wrong root usually goes unnoticed."""
    (problem,) = problems({**bundle_of(cluster1).files(), "root-cert.pem": pem_of(other_root.cert)})
    assert problem.startswith("the chain ends in CN=Root CA,O=Istio (SHA-256 ")
    assert problem.endswith("which is not one of the roots")


def test_a_signature_by_a_namesake_is_found(other_root: Authority, cluster1: Authority) -> None:
    bundle = replace(bundle_of(cluster1), cert_chain=pem_of(cluster1.cert), root_cert=pem_of(other_root.cert))
    assert problems(bundle.files()) == [
        "the signature on L=cluster1,CN=Intermediate CA,O=Istio does not verify with CN=Root CA,O=Istio "
        f"(SHA-256 {fingerprint(other_root.cert)})"
    ]


def test_a_missing_link_is_found(root: Authority) -> None:
    middle = make_intermediate(root, locality="region", path_length=1)
    cluster = make_intermediate(middle, locality="cluster1")
    whole = bundle_of(cluster)
    assert problems(whole.files()) == []
    holed = replace(whole, cert_chain=pem_of(cluster.cert) + pem_of(root.cert))
    assert problems(holed.files()) == [
        "the issuer of L=cluster1,CN=Intermediate CA,O=Istio is missing: L=region,CN=Intermediate CA,O=Istio"
    ]


def test_a_chain_without_the_issuer_is_found(root: Authority, cluster1: Authority) -> None:
    (problem,) = problems({**bundle_of(cluster1).files(), "cert-chain.pem": pem_of(root.cert)})
    assert problem.startswith("cert-chain.pem lacks L=cluster1,CN=Intermediate CA,O=Istio of ca-cert.pem")


def test_a_path_length_that_is_used_up_is_found(root: Authority) -> None:
    middle = make_intermediate(root, locality="region", path_length=0)
    cluster = make_intermediate(middle, locality="cluster1")
    assert problems(bundle_of(cluster).files()) == [
        "L=region,CN=Intermediate CA,O=Istio allows 0 CAs below it (pathlen), but there are 1"
    ]


def test_a_certificate_that_is_no_ca_is_found(root: Authority, cluster1: Authority) -> None:
    plain = resigned(cluster1.cert, root, drop=x509.BasicConstraints)
    found = problems(bundle_of(replace(cluster1, cert=plain)).files())
    assert found == ["L=cluster1,CN=Intermediate CA,O=Istio is not a CA (basicConstraints CA:TRUE is missing)"]


def test_a_link_above_that_is_no_ca_is_found(root: Authority) -> None:
    middle = make_intermediate(root, locality="region", path_length=1)
    plain = replace(middle, cert=resigned(middle.cert, root, drop=x509.BasicConstraints))
    found = problems(bundle_of(make_intermediate(plain, locality="cluster1")).files())
    assert found == [
        "L=region,CN=Intermediate CA,O=Istio signs certificates but is not a CA (basicConstraints CA:TRUE is missing)"
    ]


def test_a_link_that_may_not_sign_certificates_is_found(root: Authority, cluster1: Authority) -> None:
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=True,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    mute = replace(cluster1, cert=resigned(cluster1.cert, root, drop=x509.KeyUsage, add=(usage,)))
    leaf, *above = parse_chain(make_workload(mute, SPIFFE)[0])
    assert verify_chain(leaf, above, [root.cert], NOW) == [
        "L=cluster1,CN=Intermediate CA,O=Istio may not sign certificates (keyUsage lacks keyCertSign)"
    ]


def test_the_end_of_validity_is_seen_coming(root: Authority) -> None:
    authority = make_intermediate(root, locality="cluster1", life=20 * DAY)
    files, end = bundle_of(authority).files(), authority.cert.not_valid_after_utc
    assert problems(files, horizon=10 * DAY) == []
    (problem,) = problems(files)
    assert problem.startswith(f"L=cluster1,CN=Intermediate CA,O=Istio expires at {end:%Y-%m-%d}")
    assert problem.endswith("UTC, within 30 days")
    (problem,) = problems(files, now=NOW + 21 * DAY)
    assert problem.startswith("L=cluster1,CN=Intermediate CA,O=Istio expired at ")


def test_an_expired_root_is_found(cluster1: Authority) -> None:
    expired = [p for p in problems(bundle_of(cluster1).files(), now=NOW + 4000 * DAY) if "Root CA" in p]
    assert len(expired) == 1
    assert expired[0].startswith("CN=Root CA,O=Istio expired at ")


def test_a_certificate_from_the_future_is_found(root: Authority) -> None:
    files = bundle_of(make_intermediate(root, locality="cluster1", now=NOW + DAY)).files()
    (problem,) = problems(files)
    assert "is not valid before" in problem
    assert problem.endswith("check the clocks")


def test_a_small_key_is_found(root: Authority, cluster1: Authority) -> None:
    weak = Authority(cert=resigned(cluster1.cert, root, key=SMALL_KEY.public_key()), key=SMALL_KEY, above=(root.cert,))
    assert problems(bundle_of(weak).files()) == [
        "L=cluster1,CN=Intermediate CA,O=Istio has an RSA key of 1024 bits, the minimum is 2048"
    ]


def with_old_digest(cert: x509.Certificate, issuer: Authority, digest: hashes.SHA1 | hashes.MD5) -> x509.Certificate:
    """`cert` signed with a digest that `cryptography` refuses to build certificates with: its DER is patched.

    The identifiers of the RSA signature algorithms (RFC 8017, A.2.4) differ only in their last byte, and the
    signature is the last thing in a certificate.
    """
    prefix = bytes.fromhex("06092a864886f70d0101")
    last = {"sha1": b"\x05", "md5": b"\x04"}[digest.name]
    tbs = cert.tbs_certificate_bytes.replace(prefix + b"\x0b", prefix + last)
    assert isinstance(issuer.key, rsa.RSAPrivateKey)
    signature = issuer.key.sign(tbs, padding.PKCS1v15(), digest)
    der = cert.public_bytes(serialization.Encoding.DER).replace(prefix + b"\x0b", prefix + last)
    return x509.load_der_x509_certificate(der[: -len(signature)] + signature)


@pytest.mark.parametrize("digest", [hashes.SHA1(), hashes.MD5()], ids=["SHA1", "MD5"])
def test_an_old_digest_is_found(root: Authority, cluster1: Authority, digest: hashes.SHA1 | hashes.MD5) -> None:
    old = replace(cluster1, cert=with_old_digest(cluster1.cert, root, digest))
    assert problems(bundle_of(old).files()) == [
        f"L=cluster1,CN=Intermediate CA,O=Istio is signed with {digest.name.upper()}"
    ]


def test_all_problems_are_told_at_once(root: Authority) -> None:
    files = bundle_of(make_intermediate(root, locality="cluster1", life=DAY)).files()
    found = problems({**files, "ca-key.pem": bundle_of(root).ca_key})
    assert len(found) == 2


# -- chains -----------------------------------------------------------------------------------------------------------


def test_while_roots_rotate_either_root_is_enough(root: Authority, other_root: Authority, cluster1: Authority) -> None:
    leaf, *above = parse_chain(make_workload(cluster1, SPIFFE)[0])
    assert verify_chain(leaf, above, [other_root.cert, root.cert], NOW) == []
    assert verify_chain(leaf, above, [root.cert, other_root.cert], NOW) == []
    assert verify_chain(leaf, above, [other_root.cert], NOW) != []


def test_the_order_of_intermediates_does_not_matter(root: Authority) -> None:
    middle = make_intermediate(root, locality="region", path_length=1)
    cluster = make_intermediate(middle, locality="cluster1")
    leaf, *above = parse_chain(make_workload(cluster, SPIFFE)[0])
    assert verify_chain(leaf, above[::-1], [root.cert], NOW) == []


def test_a_self_signed_istiod_is_not_taken_for_the_plugged_in_ca(root: Authority) -> None:
    istiod = make_root(common_name="cluster.local")
    leaf, *above = parse_chain(make_workload(istiod, SPIFFE)[0])
    (problem,) = verify_chain(leaf, above, [root.cert], NOW)
    assert problem.startswith("the chain ends in CN=cluster.local,O=Istio (SHA-256 ")


def test_certificates_that_sign_each_other_end_the_search(root: Authority) -> None:
    """Cross-signed CAs make a loop; the search must end and say what is missing."""
    a = make_intermediate(root, locality="a", path_length=3)
    b = make_intermediate(a, locality="b", path_length=2)
    loop = resigned(a.cert, b)
    leaf, *_ = parse_chain(make_workload(b, SPIFFE)[0])
    assert verify_chain(leaf, [b.cert, loop], [], NOW) != []
    assert verify_chain(leaf, [b.cert, loop, a.cert], [root.cert], NOW) == []


def test_an_elliptic_curve_works_too(root: Authority, cluster1: Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    cert = resigned(cluster1.cert, root, key=key.public_key())
    assert verify_chain(cert, [], [root.cert], NOW) == []
    small = ec.generate_private_key(ec.SECP224R1())
    assert verify_chain(resigned(cluster1.cert, root, key=small.public_key()), [], [root.cert], NOW) == [
        "L=cluster1,CN=Intermediate CA,O=Istio has an EC key of 224 bits, the minimum is 256"
    ]


# -- workloads --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ((), f"the certificate has no SAN, expected URI {SPIFFE}"),
        (
            (x509.UniformResourceIdentifier(SPIFFE), x509.DNSName("mockshop")),
            f"the certificate has 2 SANs (UniformResourceIdentifier {SPIFFE}, DNSName mockshop), "
            f"expected only URI {SPIFFE}",
        ),
        ((x509.DNSName("mockshop"),), f"the SAN is not a URI (DNSName mockshop), expected URI {SPIFFE}"),
        (
            (x509.UniformResourceIdentifier("spiffe://old.domain/ns/meshproof-app/sa/mockshop"),),
            f"the SAN is URI spiffe://old.domain/ns/meshproof-app/sa/mockshop, expected URI {SPIFFE}",
        ),
    ],
    ids=["none", "two", "a DNS name", "another trust domain"],
)
def test_a_wrong_san_is_found(cluster1: Authority, names: tuple[x509.GeneralName, ...], problem: str) -> None:
    leaf, *_ = parse_chain(make_workload(cluster1, SPIFFE)[0])
    san = (x509.SubjectAlternativeName(names),) if names else ()
    changed = resigned(leaf, cluster1, drop=x509.SubjectAlternativeName, add=san)
    assert san_problems(changed, SPIFFE) == [problem]


def test_wrong_key_usages_are_found(cluster1: Authority) -> None:
    leaf, *_ = parse_chain(make_workload(cluster1, SPIFFE)[0])
    server_only = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    assert key_usage_problems(resigned(leaf, cluster1, drop=x509.ExtendedKeyUsage, add=(server_only,))) == [
        "extendedKeyUsage lacks clientAuth"
    ]
    assert key_usage_problems(resigned(leaf, cluster1, drop=x509.KeyUsage)) == ["keyUsage lacks digitalSignature"]
    assert key_usage_problems(cluster1.cert) == [
        "keyUsage has keyCertSign, which only CAs may have",
        "extendedKeyUsage lacks serverAuth",
        "extendedKeyUsage lacks clientAuth",
        "it is a CA certificate (basicConstraints CA:TRUE)",
    ]


def test_a_workload_that_outlives_its_issuer_is_found(root: Authority) -> None:
    issuer = make_intermediate(root, locality="cluster1", life=DAY)
    leaf, *_ = parse_chain(make_workload(issuer, SPIFFE, life=2 * DAY)[0])
    (problem,) = lifetime_problems(leaf, issuer.cert, longest=90 * DAY)
    assert problem.startswith("it expires at ")
    assert "after its issuer L=cluster1,CN=Intermediate CA,O=Istio" in problem
    assert "its lifetime is 2 days, 0:05:00, longer than 1 day, 0:00:00" in lifetime_problems(
        leaf, issuer.cert, longest=DAY
    )


def test_an_expired_workload_is_found(root: Authority, cluster1: Authority) -> None:
    leaf, *above = parse_chain(make_workload(cluster1, SPIFFE, now=NOW - DAY)[0])
    (problem,) = verify_chain(leaf, above, [root.cert], NOW)
    assert problem.startswith(f"{SPIFFE} expired at ")


def test_a_certificate_without_subject_and_san_still_has_a_name(cluster1: Authority) -> None:
    leaf, *_ = parse_chain(make_workload(cluster1, SPIFFE)[0])
    bare = resigned(leaf, cluster1, drop=x509.SubjectAlternativeName)
    assert bare.subject.get_attributes_for_oid(NameOID.COMMON_NAME) == []
    assert subject(bare) == f"serial {bare.serial_number:x}"
