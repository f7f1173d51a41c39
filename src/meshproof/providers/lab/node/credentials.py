"""Certificates, keys and kubeconfigs of one lab cluster, from a CA that lives as long as the lab."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from meshproof.pki.issue import key_pem_of, key_usage
from meshproof.providers.lab.address_plan import NodePlan

LIFETIME = timedelta(days=30)
"""Longer than any lab lives; short enough that a leaked key is soon worthless."""


def write_private(path: Path, content: bytes) -> Path:
    """Write a file that only its owner can read, from its creation on."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
        handle.write(content)
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientIdentity:
    """The files of a certificate and its key."""

    certificate: Path
    key: Path


class ClusterAuthority:
    """The CA of one cluster; `folder` receives all files."""

    def __init__(self, folder: Path, node: NodePlan) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = folder
        self._node = node
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"meshproof lab {node.cluster}")])
        now = datetime.now(UTC)
        self._from, self._until = now - timedelta(minutes=5), now + LIFETIME
        certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(key_usage(for_ca=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(serialization.Encoding.PEM)
        self.authority = ClientIdentity(certificate=folder / "ca.crt", key=folder / "ca.key")
        write_private(self.authority.certificate, self.pem)
        write_private(self.authority.key, key_pem_of(self._key))

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._from)
            .not_valid_after(self._until)
        )

    def issue(
        self, name: str, *, common_name: str, organization: str = "", hosts: tuple[str, ...] = ()
    ) -> ClientIdentity:
        """A certificate for client use, and for server use too where `hosts` (names or addresses) are given."""
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
        if organization:
            attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH] + ([ExtendedKeyUsageOID.SERVER_AUTH] if hosts else [])
        builder = (
            self._builder(x509.Name(attributes), key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage(for_ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        )
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_general_name(h) for h in hosts]), critical=False
            )
        certificate = builder.sign(self._key, hashes.SHA256())
        made = ClientIdentity(certificate=self.folder / f"{name}.crt", key=self.folder / f"{name}.key")
        write_private(made.certificate, certificate.public_bytes(serialization.Encoding.PEM))
        write_private(made.key, key_pem_of(key))
        return made

    def service_account_key(self) -> Path:
        """The key that signs service account tokens (RSA, as every verifier of such tokens understands RS256)."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        return write_private(self.folder / "service-accounts.key", key_pem_of(key))

    def kubeconfig(self, name: str, identity: ClientIdentity, *, server: str = "") -> Path:
        """A kubeconfig whose context is the cluster's name; with embedded data, no paths."""
        cluster = str(self._node.cluster)

        def encoded(path: Path) -> str:
            return base64.b64encode(path.read_bytes()).decode()

        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": cluster,
            "clusters": [
                {
                    "name": cluster,
                    "cluster": {
                        "server": server or self._node.api_url,
                        "certificate-authority-data": base64.b64encode(self.pem).decode(),
                    },
                }
            ],
            "users": [
                {
                    "name": f"{cluster}-{name}",
                    "user": {
                        "client-certificate-data": encoded(identity.certificate),
                        "client-key-data": encoded(identity.key),
                    },
                }
            ],
            "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": f"{cluster}-{name}"}}],
        }
        return write_private(self.folder / f"{name}.kubeconfig", yaml.safe_dump(document).encode())


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
