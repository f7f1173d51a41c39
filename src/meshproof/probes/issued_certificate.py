"""A client certificate from the mesh's own CA, requested as a proxy's agent does: by gRPC, with a token.

It needs no key of the CA, so it works with external ones too (security/v1alpha1, `IstioCertificateService`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from meshproof.clients.kubernetes.client import Kube
from meshproof.core import names
from meshproof.core.errors import ClaimFailed
from meshproof.mesh.objects import PodFacts
from meshproof.pki.issue import key_pem_of
from meshproof.probes.istiod_api import SIGNING, call_istiod, token_of
from meshproof.probes.mtls_clients import Credentials, credentials_of

CA_ADDRESS: Final = "CA_ADDR"
SIGNER: Final = "ISTIO_META_CERT_SIGNER"
"""Environment of proxies: where certificates are requested, and the signer that istiod shall have sign."""

_PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")


def issued_to(
    kube: Kube, pod: PodFacts, spiffe_id: str, *, like: PodFacts, istiod: str, root: str, life: timedelta
) -> Credentials:
    """A certificate for the service account of `pod`, from where the proxy of `like` gets its own.

    `istiod` is the host that is dialled unless that proxy has another CA address; `root` verifies it. Raises
    `ClaimFailed` with the answer if the mesh does not issue one: new pods would get none either.
    """
    env = like.proxy_env or {}
    host, _, port = env.get(CA_ADDRESS, "").partition(":")
    host, number = host or istiod, int(port or names.PORT_XDS)
    key = ec.generate_private_key(ec.SECP256R1())
    before, after = framed(request := csr(key, spiffe_id), life, env.get(SIGNER, ""))
    reply = call_istiod(
        kube,
        pod,
        host=host,
        port=number,
        target=(host, number),
        path=SIGNING,
        ca=root,
        headers={
            "authorization": f"Bearer {token_of(kube, pod)}",
            "clusterid": env.get("ISTIO_META_CLUSTER_ID", ""),
        },
        message=(before, request, after),
    )
    found = _PEM.findall(reply.body)
    if not found:
        raise ClaimFailed(f"{host}:{number} issued no certificate to {spiffe_id}: {reply}")
    return credentials_of("".join(f"{text.strip()}\n" for text in found).encode(), key_pem_of(key))


def csr(key: ec.EllipticCurvePrivateKey, spiffe_id: str) -> str:
    """A request (PEM) as agents make them: without a subject, with the SPIFFE ID (security/pkg/pki/util, `GenCSR`)."""
    san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(spiffe_id)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(san, critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def framed(request: str, life: timedelta, signer: str) -> tuple[bytes, bytes]:
    """What comes before and after the text of the request in a gRPC message `IstioCertificateRequest`.

    Fields: 1 `csr`, 3 `validity_duration` in seconds, 4 `metadata`, a Struct.
    """
    text = request.encode()
    head = b"\x0a" + _varint(len(text))
    tail = b"\x18" + _varint(int(life.total_seconds()))
    if signer:
        tail += _bytes(4, _struct({"CertSigner": signer}))
    size = len(head) + len(text) + len(tail)
    return b"\x00" + size.to_bytes(4, "big") + head, tail


def _struct(values: Mapping[str, str]) -> bytes:
    """A google.protobuf.Struct with texts only."""
    return b"".join(
        _bytes(1, _bytes(1, key.encode()) + _bytes(2, _bytes(3, value.encode()))) for key, value in values.items()
    )


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])
