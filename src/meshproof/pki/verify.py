"""Offline verification of the certificates that a mesh presents and of their CAs.

Checks return problems as texts, so that a claim can report all of them at once; an empty list is a pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

E = TypeVar("E", bound=x509.ExtensionType)

CA_CERT: Final = "ca-cert.pem"
CA_KEY: Final = "ca-key.pem"
CERT_CHAIN: Final = "cert-chain.pem"
ROOT_CERT: Final = "root-cert.pem"
"""Keys of the secret `cacerts` (istio.io, "Plug in CA Certificates")."""
TLS_CERT: Final = "tls.crt"
TLS_KEY: Final = "tls.key"
TLS_ROOT: Final = "ca.crt"
"""Those of a secret of type kubernetes.io/tls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaFileNames:
    """The files of a CA in one of the forms that istiod reads (pilot/pkg/bootstrap, `detectSigningCABundleAndCRL`).

    `chain` are those whose certificates workloads present above their own.
    """

    cert: str
    key: str
    chain: tuple[str, ...]
    root: str

    @property
    def usual(self) -> bool:
        return self.cert == CA_CERT

    @property
    def all(self) -> tuple[str, ...]:
        """Each file once, in the order of the documentation."""
        return tuple(dict.fromkeys((self.cert, self.key, *self.chain, self.root)))


ISTIO_FILES: Final = CaFileNames(cert=CA_CERT, key=CA_KEY, chain=(CERT_CHAIN,), root=ROOT_CERT)
TLS_FILES: Final = CaFileNames(cert=TLS_CERT, key=TLS_KEY, chain=(TLS_CERT, TLS_ROOT), root=TLS_ROOT)
SELF_SIGNED_FILES: Final = CaFileNames(cert=CA_CERT, key=CA_KEY, chain=(CA_CERT,), root=CA_CERT)


def ca_file_names(files: Iterable[str]) -> CaFileNames:
    """The form of a secret `cacerts` with these files: as istiod decides it, by `tls.crt`."""
    return TLS_FILES if TLS_CERT in files else ISTIO_FILES


SMALLEST_RSA_BITS: Final = 2048
SMALLEST_EC_BITS: Final = 256

# -- reading ----------------------------------------------------------------------------------------------------------


def parse_chain(pem: bytes | str) -> tuple[x509.Certificate, ...]:
    """The certificates of a PEM text in order. Raises `ValueError` if there is none or one cannot be read."""
    data = pem.encode() if isinstance(pem, str) else pem
    return tuple(x509.load_pem_x509_certificates(data))


def fingerprint(cert: x509.Certificate) -> str:
    """SHA-256 as `openssl x509 -fingerprint` prints it: `AB:CD:…`."""
    return cert.fingerprint(hashes.SHA256()).hex(":").upper()


def subject(cert: x509.Certificate) -> str:
    """The certificate's name for humans: its subject, or its first SAN if the subject is empty (workloads)."""
    named = cert.subject.rfc4514_string()
    if named:
        return named
    san = _extension(cert, x509.SubjectAlternativeName)
    return str(san[0].value) if san else f"serial {cert.serial_number:x}"


def spiffe_ids(cert: x509.Certificate) -> tuple[str, ...]:
    """The URI SANs (SPIFFE X.509-SVID, section 2: there should be exactly one)."""
    san = _extension(cert, x509.SubjectAlternativeName)
    return tuple(san.get_values_for_type(x509.UniformResourceIdentifier)) if san else ()


def dns_names(cert: x509.Certificate) -> tuple[str, ...]:
    """The DNS SANs, which clients compare with the server name (RFC 9525, section 6)."""
    san = _extension(cert, x509.SubjectAlternativeName)
    return tuple(san.get_values_for_type(x509.DNSName)) if san else ()


def _extension(cert: x509.Certificate, kind: type[E]) -> E | None:
    try:
        return cert.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


# -- verifying --------------------------------------------------------------------------------------------------------


def check_ca_bundle(
    files: Mapping[str, bytes], now: datetime, horizon: timedelta, named: CaFileNames | None = None
) -> list[str]:
    """Problems of the decoded data of a secret with a CA; all of it must remain valid for at least `horizon`.

    istiod signs with the first certificate of its file. The order of the others does not matter (RFC 8446, 4.4.2).
    """
    named = named or ca_file_names(files)
    problems = [f"{name} is missing" for name in named.all if not files.get(name)]
    if problems:
        return problems
    chains: dict[str, tuple[x509.Certificate, ...]] = {}
    for name in named.all:
        try:
            chains |= {} if name == named.key else {name: parse_chain(files[name])}
        except ValueError as problem:
            problems.append(f"{name} cannot be read: {problem}")
    if problems:
        return problems
    cert, roots = chains[named.cert][0], chains[named.root]
    presented = tuple(each for name in named.chain for each in chains[name])
    problems += _key_problems(files[named.key], cert, named)
    if cert not in (*presented, *roots):
        problems.append(
            f"{' and '.join(named.chain)} lacks {subject(cert)} of {named.cert}: workloads would present a chain "
            "that does not contain their issuer"
        )
    if not _is_ca(cert):
        problems.append(f"{subject(cert)} is not a CA (basicConstraints CA:TRUE is missing)")
    return problems + verify_chain(cert, presented, roots, now, horizon=horizon)


def verify_chain(
    leaf: x509.Certificate,
    intermediates: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    now: datetime,
    *,
    horizon: timedelta = timedelta(0),
) -> list[str]:
    """Problems of the path from `leaf` to one of `roots`.

    Checks signatures, validity from now to the horizon, basicConstraints with path length, keyCertSign, digests and
    key sizes. `leaf` may be a CA itself. Hand-written because `cryptography`'s own verifier, like most, requires a
    DNS name or IP address, which Istio's workload certificates do not have.
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
    """The path up to a root; if there is none, its longest part and why it stops there."""
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
    return f"the issuer of {subject(cert)} is missing: {cert.issuer.rfc4514_string()}"


def _signed_by(cert: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        cert.verify_directly_issued_by(issuer)
    except (InvalidSignature, TypeError):
        return False
    except (ValueError, UnsupportedAlgorithm):
        return _signed_with_old_digest(cert, issuer)
    return True


def _signed_with_old_digest(cert: x509.Certificate, issuer: x509.Certificate) -> bool:
    """`cryptography` rejects SHA-1 and MD5 signatures here; check for them, so that the digest is reported and not the
    key."""
    key, digest = issuer.public_key(), _digest(cert)
    if not isinstance(key, rsa.RSAPublicKey) or not isinstance(digest, hashes.SHA1 | hashes.MD5):
        return False
    try:
        key.verify(cert.signature, cert.tbs_certificate_bytes, padding.PKCS1v15(), digest)
    except (InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _digest(cert: x509.Certificate) -> hashes.HashAlgorithm | None:
    """The signature's digest; None if the algorithm has no separate digest (Ed25519) or is unknown."""
    try:
        return cert.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return None


def _is_ca(cert: x509.Certificate) -> bool:
    constraints = _extension(cert, x509.BasicConstraints)
    return constraints is not None and constraints.ca


def _issuer_problems(cert: x509.Certificate, cas_below: int) -> list[str]:
    """RFC 5280, 4.2.1.3 and 4.2.1.9: what an issuing certificate needs."""
    constraints = _extension(cert, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        return [f"{subject(cert)} signs certificates but is not a CA (basicConstraints CA:TRUE is missing)"]
    problems = []
    allowed = constraints.path_length
    if allowed is not None and allowed < cas_below:
        problems.append(f"{subject(cert)} allows {allowed} CAs below it (pathlen), but there are {cas_below}")
    usage = _extension(cert, x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        problems.append(f"{subject(cert)} may not sign certificates (keyUsage lacks keyCertSign)")
    return problems


def _validity_problems(cert: x509.Certificate, now: datetime, horizon: timedelta) -> list[str]:
    begin, end = cert.not_valid_before_utc, cert.not_valid_after_utc
    if now < begin:
        return [f"{subject(cert)} is not valid before {begin:%Y-%m-%d %H:%M} UTC; check the clocks"]
    if now > end:
        return [f"{subject(cert)} expired at {end:%Y-%m-%d %H:%M} UTC"]
    if now + horizon > end:
        return [f"{subject(cert)} expires at {end:%Y-%m-%d %H:%M} UTC, within {horizon / timedelta(days=1):g} days"]
    return []


def _strength_problems(cert: x509.Certificate) -> list[str]:
    problems = []
    digest = _digest(cert)
    if isinstance(digest, hashes.SHA1 | hashes.MD5):
        problems.append(f"{subject(cert)} is signed with {digest.name.upper()}")
    key = cert.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < SMALLEST_RSA_BITS:
        problems.append(f"{subject(cert)} has an RSA key of {key.key_size} bits, the minimum is {SMALLEST_RSA_BITS}")
    if isinstance(key, ec.EllipticCurvePublicKey) and key.key_size < SMALLEST_EC_BITS:
        problems.append(f"{subject(cert)} has an EC key of {key.key_size} bits, the minimum is {SMALLEST_EC_BITS}")
    return problems


def _key_problems(pem: bytes, cert: x509.Certificate, named: CaFileNames) -> list[str]:
    """Error texts never quote the file: parser errors could."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as problem:
        why = "it is encrypted" if isinstance(problem, TypeError) else "it is not a PEM private key"
        return [f"{named.key} cannot be read: {why}"]
    matches = key.public_key() == cert.public_key()
    return [] if matches else [f"{named.key} does not match {named.cert} ({subject(cert)})"]


# -- requirements for workload certificates ---------------------------------------------------------------------------


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
    """digitalSignature, serverAuth and clientAuth, and not a CA: a workload is client and server in mutual TLS."""
    problems = []
    usage = _extension(leaf, x509.KeyUsage)
    if usage is None or not usage.digital_signature:
        problems.append("keyUsage lacks digitalSignature")
    if usage is not None and usage.key_cert_sign:
        problems.append("keyUsage has keyCertSign, which only CAs may have")
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
    """No later than its issuer's expiry, and no longer than `longest` (istiod's `MAX_WORKLOAD_CERT_TTL` is 90 days)."""
    problems = []
    if leaf.not_valid_after_utc > issuer.not_valid_after_utc:
        problems.append(
            f"it expires at {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC, after its issuer {subject(issuer)} "
            f"({issuer.not_valid_after_utc:%Y-%m-%d %H:%M} UTC)"
        )
    life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    if life > longest:
        problems.append(f"its lifetime is {life}, longer than {longest}")
    return problems
