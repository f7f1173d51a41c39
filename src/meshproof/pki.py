"""Plug-in CAs in the form that Istio reads, and offline verification of the certificates that a mesh presents.

Checks return what is wrong in words, so that a claim can report all of it at once; an empty list is a pass.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

E = TypeVar("E", bound=x509.ExtensionType)

CA_CERT: Final = "ca-cert.pem"
CA_KEY: Final = "ca-key.pem"
CERT_CHAIN: Final = "cert-chain.pem"
ROOT_CERT: Final = "root-cert.pem"
"""Keys of the secret `cacerts` (istio.io, "Plug in CA Certificates")."""

ROOT_LIFE: Final = timedelta(days=3650)
INTERMEDIATE_LIFE: Final = timedelta(days=730)
BACKDATE: Final = timedelta(minutes=5)
"""How far validity begins in the past: the clusters' clocks may be a little behind the runner's."""

KEY_BITS: Final = 2048
"""RSA, in PKCS #1: every istiod reads it. The book's 4096 takes seconds to make, and the mesh lives for minutes."""
SMALLEST_RSA_BITS: Final = 2048
SMALLEST_EC_BITS: Final = 256

# -- making -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Authority:
    """A certificate that may sign, with its private key and the certificates above it (nearest first)."""

    cert: x509.Certificate
    key: rsa.RSAPrivateKey
    above: tuple[x509.Certificate, ...] = ()

    def __repr__(self) -> str:
        return f"Authority({subject(self.cert)}, SHA-256 {fingerprint(self.cert)})"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class CaBundle:
    """The four PEM files of a plug-in CA. `repr` shows no key."""

    ca_cert: bytes
    ca_key: bytes
    cert_chain: bytes
    root_cert: bytes

    def files(self) -> dict[str, bytes]:
        """The files by the names that Istio looks for."""
        return {
            CA_CERT: self.ca_cert,
            CA_KEY: self.ca_key,
            CERT_CHAIN: self.cert_chain,
            ROOT_CERT: self.root_cert,
        }

    def secret_data(self) -> dict[str, str]:
        """The `data` of the Kubernetes secret `cacerts` (base64)."""
        return {name: base64.b64encode(pem).decode() for name, pem in self.files().items()}

    def __repr__(self) -> str:
        (cert,) = parse_chain(self.ca_cert)
        return f"CaBundle({subject(cert)}, SHA-256 {fingerprint(cert)})"


def make_root(
    *, common_name: str = "Root CA", life: timedelta = ROOT_LIFE, now: datetime | None = None, bits: int = KEY_BITS
) -> Authority:
    """A self-signed root, O=Istio and CN=Root CA as in the book. `now` must carry a time zone."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    name = _name(common_name)
    builder = _dated(_ca_builder(name, name, key.public_key(), key.public_key(), path_length=None), now, life)
    return Authority(cert=builder.sign(key, hashes.SHA256()), key=key)


def make_intermediate(
    issuer: Authority,
    *,
    locality: str,
    common_name: str = "Intermediate CA",
    life: timedelta = INTERMEDIATE_LIFE,
    now: datetime | None = None,
    bits: int = KEY_BITS,
    path_length: int = 0,
) -> Authority:
    """A cluster's intermediate: O=Istio, CN=Intermediate CA, L=the cluster's name.

    `path_length` 0 means that it signs workloads and no further CA. Ends no later than its issuer.
    """
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    builder = _ca_builder(
        _name(common_name, locality), issuer.cert.subject, key.public_key(), issuer.key.public_key(), path_length
    )
    builder = _dated(builder, now, life, issuer.cert.not_valid_after_utc)
    return Authority(cert=builder.sign(issuer.key, hashes.SHA256()), key=key, above=(issuer.cert, *issuer.above))


def bundle_of(authority: Authority) -> CaBundle:
    """The files for an authority: the chain is its own certificate and all above it, the root included, as in the book."""
    chain = (authority.cert, *authority.above)
    return CaBundle(
        ca_cert=pem_of(authority.cert),
        ca_key=key_pem_of(authority.key),
        cert_chain=b"".join(pem_of(cert) for cert in chain),
        root_cert=pem_of(chain[-1]),
    )


def plugin_ca(root: Authority, cluster: str, *, life: timedelta = INTERMEDIATE_LIFE) -> CaBundle:
    """A new intermediate under `root` for one cluster, ready for its secret `cacerts`."""
    return bundle_of(make_intermediate(root, locality=cluster, life=life))


def make_workload(
    issuer: Authority, spiffe_id: str, *, life: timedelta = timedelta(hours=1), now: datetime | None = None
) -> tuple[bytes, bytes]:
    """Certificate chain and key (PEM) as istiod would give a workload, for callers that probe the mesh from outside.

    The subject is empty and the only SAN is the URI `spiffe_id`, which is critical then (RFC 5280, 4.1.2.6).
    """
    key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.cert.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(for_ca=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(spiffe_id)]), critical=True)
    )
    leaf = _dated(builder, now, life).sign(issuer.key, hashes.SHA256())
    chain = b"".join(pem_of(cert) for cert in (leaf, issuer.cert, *issuer.above))
    return chain, key_pem_of(key)


def pem_of(cert: x509.Certificate) -> bytes:
    return cert.public_bytes(serialization.Encoding.PEM)


def key_pem_of(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def _name(common_name: str, locality: str = "") -> x509.Name:
    parts = [(NameOID.ORGANIZATION_NAME, "Istio"), (NameOID.COMMON_NAME, common_name)]
    if locality:
        parts.append((NameOID.LOCALITY_NAME, locality))
    return x509.Name([x509.NameAttribute(oid, text) for oid, text in parts])


def _dated(
    builder: x509.CertificateBuilder, now: datetime | None, life: timedelta, latest: datetime | None = None
) -> x509.CertificateBuilder:
    begin = (now or datetime.now(UTC)) - BACKDATE
    end = begin + BACKDATE + life
    return builder.not_valid_before(begin).not_valid_after(min(end, latest) if latest else end)


def _key_usage(*, for_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not for_ca,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=for_ca,
        crl_sign=for_ca,
        encipher_only=False,
        decipher_only=False,
    )


def _ca_builder(
    name: x509.Name,
    issuer_name: x509.Name,
    key: rsa.RSAPublicKey,
    issuer_key: rsa.RSAPublicKey,
    path_length: int | None,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer_name)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_key_usage(for_ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


# -- reading ----------------------------------------------------------------------------------------------------------


def parse_chain(pem: bytes | str) -> tuple[x509.Certificate, ...]:
    """The certificates of a PEM text in order. Raises `ValueError` if there is none or one cannot be read."""
    data = pem.encode() if isinstance(pem, str) else pem
    return tuple(x509.load_pem_x509_certificates(data))


def fingerprint(cert: x509.Certificate) -> str:
    """SHA-256 as `openssl x509 -fingerprint` prints it: `AB:CD:…`."""
    return cert.fingerprint(hashes.SHA256()).hex(":").upper()


def subject(cert: x509.Certificate) -> str:
    """How people recognise the certificate: its subject, or its first SAN if the subject is empty (workloads)."""
    named = cert.subject.rfc4514_string()
    if named:
        return named
    san = _extension(cert, x509.SubjectAlternativeName)
    return str(san[0].value) if san else f"serial {cert.serial_number:x}"


def spiffe_ids(cert: x509.Certificate) -> tuple[str, ...]:
    """The URI SANs (SPIFFE X.509-SVID, section 2: there should be exactly one)."""
    san = _extension(cert, x509.SubjectAlternativeName)
    return tuple(san.get_values_for_type(x509.UniformResourceIdentifier)) if san else ()


def _extension(cert: x509.Certificate, kind: type[E]) -> E | None:
    try:
        return cert.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


# -- verifying --------------------------------------------------------------------------------------------------------


def check_ca_bundle(files: Mapping[str, bytes], now: datetime, horizon: timedelta) -> list[str]:
    """What is wrong with the decoded data of a secret `cacerts`; `horizon` is how far ahead all of it must be valid."""
    problems = [f"{name} is missing" for name in (CA_CERT, CA_KEY, CERT_CHAIN, ROOT_CERT) if not files.get(name)]
    if problems:
        return problems
    chains: dict[str, tuple[x509.Certificate, ...]] = {}
    for name in (CA_CERT, CERT_CHAIN, ROOT_CERT):
        try:
            chains[name] = parse_chain(files[name])
        except ValueError as problem:
            problems.append(f"{name} cannot be read: {problem}")
    if problems:
        return problems
    cert = chains[CA_CERT][0]
    if len(chains[CA_CERT]) > 1:
        problems.append(f"{CA_CERT} holds {len(chains[CA_CERT])} certificates, istiod signs with the first only")
    problems += _key_problems(files[CA_KEY], cert)
    if chains[CERT_CHAIN][0] != cert:
        problems.append(
            f"{CERT_CHAIN} begins with {subject(chains[CERT_CHAIN][0])}, not with {CA_CERT}: workloads would present "
            "a chain that does not contain their issuer"
        )
    if not _is_ca(cert):
        problems.append(f"{subject(cert)} is not a CA (basicConstraints CA:TRUE is missing)")
    return problems + verify_chain(cert, chains[CERT_CHAIN], chains[ROOT_CERT], now, horizon=horizon)


def verify_chain(
    leaf: x509.Certificate,
    intermediates: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    now: datetime,
    *,
    horizon: timedelta = timedelta(0),
) -> list[str]:
    """What is wrong with the path from `leaf` to one of `roots`.

    Checks signatures, validity from now to the horizon, basicConstraints with path length, keyCertSign, digests and
    key sizes. `leaf` may be a CA itself. It is written here because `cryptography`'s own verifier, like most, wants a
    DNS name or address, which Istio's workloads do not have.
    """
    path, stop = _build_path(leaf, intermediates, roots)
    problems = [stop] if stop else []
    for below, cert in enumerate(path):
        problems += _strength_problems(cert) + _validity_problems(cert, now, horizon)
        if below > 0:
            problems += _issuer_problems(cert, below - 1 + _is_ca(leaf))
    return problems


def _build_path(
    leaf: x509.Certificate, intermediates: Iterable[x509.Certificate], roots: Sequence[x509.Certificate]
) -> tuple[list[x509.Certificate], str]:
    """The path up to a root; if there is none, as far as it goes and why it stops there."""
    anchors = set(roots)
    pool = [cert for cert in dict.fromkeys((*roots, *intermediates)) if cert != leaf]
    best, why = [leaf], ""

    def climb(path: list[x509.Certificate]) -> list[x509.Certificate] | None:
        nonlocal best, why
        cert = path[-1]
        if cert in anchors:
            return path
        namesakes = [other for other in pool if other not in path and other.subject == cert.issuer]
        signers = [other for other in namesakes if _signed_by(cert, other)]
        for signer in signers:
            if found := climb([*path, signer]):
                return found
        if not signers and (len(path) > len(best) or not why):
            best, why = path, _why_stopped(cert, namesakes)
        return None

    found = climb([leaf])
    return (found, "") if found else (best, why)


def _why_stopped(cert: x509.Certificate, namesakes: Sequence[x509.Certificate]) -> str:
    if cert.subject == cert.issuer:
        return f"the chain ends in {subject(cert)} (SHA-256 {fingerprint(cert)}), which is not one of the roots"
    if namesakes:
        others = ", ".join(f"SHA-256 {fingerprint(other)}" for other in namesakes)
        return f"the signature on {subject(cert)} does not verify with {subject(namesakes[0])} ({others})"
    return f"the issuer of {subject(cert)} is not there: {cert.issuer.rfc4514_string()}"


def _signed_by(cert: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        cert.verify_directly_issued_by(issuer)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def _is_ca(cert: x509.Certificate) -> bool:
    constraints = _extension(cert, x509.BasicConstraints)
    return constraints is not None and constraints.ca


def _issuer_problems(cert: x509.Certificate, cas_below: int) -> list[str]:
    """RFC 5280, 4.2.1.3 and 4.2.1.9: what a certificate needs that has others below it."""
    constraints = _extension(cert, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        return [f"{subject(cert)} signs others but is not a CA (basicConstraints CA:TRUE is missing)"]
    problems = []
    allowed = constraints.path_length
    if allowed is not None and allowed < cas_below:
        problems.append(f"{subject(cert)} allows {allowed} CAs below itself (pathlen), there are {cas_below}")
    usage = _extension(cert, x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        problems.append(f"{subject(cert)} may not sign certificates (keyUsage lacks keyCertSign)")
    return problems


def _validity_problems(cert: x509.Certificate, now: datetime, horizon: timedelta) -> list[str]:
    begin, end = cert.not_valid_before_utc, cert.not_valid_after_utc
    if now < begin:
        return [f"{subject(cert)} is not valid before {begin:%Y-%m-%d %H:%M} UTC; look at the clocks"]
    if now > end:
        return [f"{subject(cert)} expired at {end:%Y-%m-%d %H:%M} UTC"]
    if now + horizon > end:
        return [f"{subject(cert)} expires at {end:%Y-%m-%d %H:%M} UTC, within {horizon / timedelta(days=1):g} days"]
    return []


def _strength_problems(cert: x509.Certificate) -> list[str]:
    problems = []
    try:
        digest = cert.signature_hash_algorithm
    except UnsupportedAlgorithm:
        problems.append(f"{subject(cert)} is signed with an unknown algorithm ({cert.signature_algorithm_oid})")
    else:
        if isinstance(digest, hashes.SHA1 | hashes.MD5):
            problems.append(f"{subject(cert)} is signed with {digest.name.upper()}")
    key = cert.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < SMALLEST_RSA_BITS:
        problems.append(f"{subject(cert)} has an RSA key of {key.key_size} bits, at least {SMALLEST_RSA_BITS} are safe")
    if isinstance(key, ec.EllipticCurvePublicKey) and key.key_size < SMALLEST_EC_BITS:
        problems.append(f"{subject(cert)} has an EC key of {key.key_size} bits, at least {SMALLEST_EC_BITS} are safe")
    return problems


def _key_problems(pem: bytes, cert: x509.Certificate) -> list[str]:
    """Says nothing of what is in the file: parse errors could quote it."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as problem:
        why = "it is encrypted" if isinstance(problem, TypeError) else "it is not a private key in PEM"
        return [f"{CA_KEY} cannot be read: {why}"]
    return [] if key.public_key() == cert.public_key() else [f"{CA_KEY} does not fit {CA_CERT} ({subject(cert)})"]


# -- what a workload's certificate must say ---------------------------------------------------------------------------


def san_problems(leaf: x509.Certificate, expected: str) -> list[str]:
    """Exactly one SAN, a URI, equal to the expected SPIFFE ID (SPIFFE X.509-SVID, section 2)."""
    san = _extension(leaf, x509.SubjectAlternativeName)
    names = list(san) if san else []
    if not names:
        return [f"the certificate has no SAN, expected URI {expected}"]
    shown = ", ".join(f"{type(name).__name__} {name.value}" for name in names)
    if len(names) > 1:
        return [f"the certificate has {len(names)} SANs ({shown}), expected only URI {expected}"]
    if not isinstance(names[0], x509.UniformResourceIdentifier):
        return [f"the SAN is not a URI ({shown}), expected URI {expected}"]
    return [] if names[0].value == expected else [f"the SAN is URI {names[0].value}, expected URI {expected}"]


def key_usage_problems(leaf: x509.Certificate) -> list[str]:
    """digitalSignature, serverAuth and clientAuth, and no CA: a workload is both ends of mutual TLS."""
    problems = []
    usage = _extension(leaf, x509.KeyUsage)
    if usage is None or not usage.digital_signature:
        problems.append("keyUsage lacks digitalSignature")
    if usage is not None and usage.key_cert_sign:
        problems.append("keyUsage has keyCertSign, which is for CAs only")
    extended = _extension(leaf, x509.ExtendedKeyUsage)
    purposes = set(extended) if extended else set()
    for purpose, name in (
        (ExtendedKeyUsageOID.SERVER_AUTH, "serverAuth"),
        (ExtendedKeyUsageOID.CLIENT_AUTH, "clientAuth"),
    ):
        if purpose not in purposes:
            problems.append(f"extendedKeyUsage lacks {name}")
    if _is_ca(leaf):
        problems.append("it is a CA certificate (basicConstraints CA:TRUE)")
    return problems


def lifetime_problems(leaf: x509.Certificate, issuer: x509.Certificate, *, longest: timedelta) -> list[str]:
    """Not past its issuer's end, and not longer than `longest` (istiod's `MAX_WORKLOAD_CERT_TTL` is 90 days)."""
    problems = []
    if leaf.not_valid_after_utc > issuer.not_valid_after_utc:
        problems.append(
            f"it ends at {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC, after its issuer {subject(issuer)} "
            f"({issuer.not_valid_after_utc:%Y-%m-%d %H:%M} UTC)"
        )
    life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    if life > longest:
        problems.append(f"it lives for {life}, longer than {longest}")
    return problems
