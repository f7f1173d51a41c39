"""Certificates reduced to what renewal preserves: names, issuer, trusted roots. Contains no key."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from meshproof.clients.kubernetes.client import Json
from meshproof.pki.verify import dns_names, fingerprint, parse_chain, spiffe_ids, subject

UNREADABLE: Final = "it cannot be read"


def secret(found: Json) -> Json:
    """Content of one secret of a proxy (fields in camelCase): a certificate, trusted roots, or neither."""
    content: Json = {}
    if "tlsCertificate" in found:
        content["certificate"] = _leaf((found["tlsCertificate"] or {}).get("certificateChain") or {})
    if "validationContext" in found:
        content["trusted"] = trusted(_pem((found["validationContext"] or {}).get("trustedCa") or {}))
    return content


def _leaf(source: Json) -> object:
    chain = _read(_pem(source))
    if not chain:
        return UNREADABLE
    leaf, *above = chain
    life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    return {
        "names": sorted([*spiffe_ids(leaf), *dns_names(leaf)]),
        "issuer": leaf.issuer.rfc4514_string(),
        "above": [_description(cert) for cert in above],
        "key": _key(leaf),
        "hours": round(life.total_seconds() / 3600),
    }


def trusted(pem: bytes) -> object:
    """The certificates of a bundle, sorted."""
    found = _read(pem)
    return sorted(_description(cert) for cert in found) if found else UNREADABLE


def _description(cert: x509.Certificate) -> str:
    return f"{subject(cert)} SHA-256 {fingerprint(cert)}"


def _key(cert: x509.Certificate) -> str:
    key = cert.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    return f"EC {key.curve.name}" if isinstance(key, ec.EllipticCurvePublicKey) else type(key).__name__


def _pem(source: Json) -> bytes:
    try:
        raw = source.get("inlineBytes")
        return base64.b64decode(raw) if raw else str(source.get("inlineString") or "").encode()
    except binascii.Error:
        return b""


def _read(pem: bytes) -> tuple[x509.Certificate, ...]:
    try:
        return parse_chain(pem)
    except ValueError:
        return ()
