"""Plug-in CAs in Istio's format: one root, and an intermediate CA for each cluster."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from meshproof.pki.verify import CERT_CHAIN, ISTIO_FILES, CaFileNames, fingerprint, parse_chain, subject

ROOT_LIFE: Final = timedelta(days=3650)
INTERMEDIATE_LIFE: Final = timedelta(days=730)
BACKDATE: Final = timedelta(minutes=5)
"""Backdating of `notBefore`: the clusters' clocks may be a little behind the runner's."""

SigningKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
"""The kinds of keys that istiod signs with and that Envoy accepts in TLS."""

KEY_BITS: Final = 2048
"""RSA in PKCS #1, which every istiod reads. 4096 bits take seconds to generate, for a mesh that lives for minutes."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Authority:
    """A CA certificate with its private key and its issuers (nearest first)."""

    cert: x509.Certificate
    key: SigningKey
    above: tuple[x509.Certificate, ...] = ()

    def __repr__(self) -> str:
        return f"Authority({subject(self.cert)}, SHA-256 {fingerprint(self.cert)})"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class CaBundle:
    """The four PEM files of a plug-in CA. `repr` omits the key."""

    ca_cert: bytes
    ca_key: bytes
    cert_chain: bytes
    root_cert: bytes

    def files(self, named: CaFileNames = ISTIO_FILES) -> dict[str, bytes]:
        """The files by the names that Istio expects; in the form of Kubernetes with the chain, without the root, in
        that of the certificate."""
        if named.usual:
            chain = {named.cert: self.ca_cert, CERT_CHAIN: self.cert_chain}
        else:
            roots = parse_chain(self.root_cert)
            chain = {named.cert: b"".join(pem_of(c) for c in parse_chain(self.cert_chain) if c not in roots)}
        return {**chain, named.key: self.ca_key, named.root: self.root_cert}

    def secret_data(self, named: CaFileNames = ISTIO_FILES) -> dict[str, str]:
        """The `data` of the Kubernetes secret `cacerts` (base64)."""
        return {name: base64.b64encode(pem).decode() for name, pem in self.files(named).items()}

    def __repr__(self) -> str:
        (cert,) = parse_chain(self.ca_cert)
        return f"CaBundle({subject(cert)}, SHA-256 {fingerprint(cert)})"


def make_root(
    *,
    common_name: str = "Root CA",
    life: timedelta = ROOT_LIFE,
    now: datetime | None = None,
    key: SigningKey | None = None,
) -> Authority:
    """A self-signed root, O=Istio and CN=Root CA. `now` must have a time zone. Default key: a new RSA key."""
    key = key or new_rsa_key()
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
    path_length: int = 0,
    key: SigningKey | None = None,
) -> Authority:
    """A cluster's intermediate: O=Istio, CN=Intermediate CA, L=the cluster's name.

    `path_length` 0 means that it signs workload certificates but no further CA. Expires no later than its issuer.
    """
    key = key or new_rsa_key()
    builder = _ca_builder(
        _name(common_name, locality), issuer.cert.subject, key.public_key(), issuer.key.public_key(), path_length
    )
    builder = _dated(builder, now, life, issuer.cert.not_valid_after_utc)
    return Authority(cert=builder.sign(issuer.key, hashes.SHA256()), key=key, above=(issuer.cert, *issuer.above))


def bundle_of(authority: Authority) -> CaBundle:
    """The files for an authority; the chain is its own certificate and all its issuers including the root."""
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
    issuer: Authority,
    spiffe_id: str,
    *,
    life: timedelta = timedelta(hours=1),
    now: datetime | None = None,
    key: SigningKey | None = None,
) -> tuple[bytes, bytes]:
    """Certificate chain and key (PEM) as istiod would issue them to a workload, for clients that probe the mesh.

    The subject is empty and the only SAN is the URI `spiffe_id`, which is then critical (RFC 5280, 4.1.2.6). Without a
    `key` a new one is generated, which takes at least a tenth of a second.
    """
    key = key or new_rsa_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.cert.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(for_ca=False), critical=True)
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


def new_rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)


def key_pem_of(key: SigningKey) -> bytes:
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


def key_usage(*, for_ca: bool) -> x509.KeyUsage:
    """Key usage of a CA (signs certificates and CRLs) or of a TLS endpoint (RFC 5280, 4.2.1.3)."""
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
    key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey,
    issuer_key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey,
    path_length: int | None,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer_name)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(key_usage(for_ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )
