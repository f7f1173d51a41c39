"""The CA that signs a cluster's workloads, in each form that istiod reads, and external CAs by what they issued."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

from cryptography import x509

from meshproof.clients.envoy_admin import Identity
from meshproof.clients.kubernetes.client import FORBIDDEN, ApiError, Kube
from meshproof.core import names
from meshproof.core.errors import ClaimFailed
from meshproof.mesh.go_booleans import is_false
from meshproof.mesh.objects import PodFacts
from meshproof.pki.verify import (
    SELF_SIGNED_FILES,
    CaFileNames,
    ca_file_names,
    check_ca_bundle,
    parse_chain,
    subject,
    verify_chain,
)

SELF_SIGNED: Final = "istio-ca-secret"
"""The secret of an istiod that signs with a root of its own (security/pkg/pki/ca, `CASecret`)."""

EXTERNAL_CA: Final = "EXTERNAL_CA"
CA_SERVER: Final = "ENABLE_CA_SERVER"
"""Switches of istiod (pilot/pkg/bootstrap, `maybeCreateCA`): with an external CA, or without its CA server, istiod does
not read the secrets."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class CaFiles:
    """The decoded files of a secret from which istiod reads its CA. `repr` omits them, since one is a private key."""

    files: Mapping[str, bytes]
    secret: str = names.CACERTS

    def __repr__(self) -> str:
        return f"CaFiles({self.secret}: {', '.join(sorted(self.files))})"

    @property
    def names(self) -> CaFileNames:
        """The names of the files in this form."""
        return SELF_SIGNED_FILES if self.secret == SELF_SIGNED else ca_file_names(self.files)

    @property
    def form(self) -> str:
        """Where and how it is stored, for texts."""
        place = f"{names.SYSTEM_NAMESPACE}/{self.secret}"
        if self.secret == SELF_SIGNED:
            return f"{place} (self-signed)"
        return place if self.names.usual else f"{place} ({self.names.cert})"

    @property
    def issuer(self) -> x509.Certificate:
        """The certificate that istiod signs with: the first of its file."""
        return self._certificates(self.names.cert)[0]

    @property
    def issuers(self) -> tuple[x509.Certificate, ...]:
        return (self.issuer,)

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """The certificates that workloads present above their own."""
        return tuple(cert for name in self.names.chain for cert in self._certificates(name))

    @property
    def roots(self) -> tuple[x509.Certificate, ...]:
        return self._certificates(self.names.root)

    def problems(self, now: datetime, horizon: timedelta) -> list[str]:
        """What is wrong with the files (`check_ca_bundle`)."""
        return check_ca_bundle(self.files, now, horizon, self.names)

    def leaf_problems(self, leaf: x509.Certificate, above: Sequence[x509.Certificate], now: datetime) -> list[str]:
        """Why a workload's certificate is not one of this CA; it signs directly, whatever is presented `above`."""
        del above
        return verify_chain(leaf, (), self.issuers, now)

    def _certificates(self, name: str) -> tuple[x509.Certificate, ...]:
        try:
            return parse_chain(self.files.get(name, b""))
        except ValueError:
            raise ClaimFailed(f"{name} of secret {self.secret} contains no certificate") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalCa:
    """A CA outside of istiod, known by what it issued: the chains that the proxies of one control plane present, and
    the root that istiod publishes.

    `why` says how istiod knows of it, `configured` the roots in `caCertificates` of the mesh configuration.
    """

    why: str
    chains: tuple[tuple[x509.Certificate, ...], ...]
    roots: tuple[x509.Certificate, ...]
    configured: tuple[x509.Certificate, ...] = ()

    @property
    def form(self) -> str:
        return f"external CA ({self.why})"

    @property
    def issuers(self) -> tuple[x509.Certificate, ...]:
        """The certificates that signed a workload's certificate: what follows it in the chain, else a root."""
        return tuple(dict.fromkeys(chain[1] for chain in self.chains if len(chain) > 1)) or self.roots

    @property
    def authorities(self) -> tuple[tuple[x509.Certificate, ...], ...]:
        """Each issuing CA's certificate with those above it that workloads present."""
        return tuple(dict.fromkeys(chain[1:] for chain in self.chains if len(chain) > 1))

    def problems(self, now: datetime, horizon: timedelta) -> list[str]:
        """Issuing CAs that do not chain to the published root now, and a root that expires within the horizon."""
        problems = [] if self.roots else [f"no root in ConfigMap {names.ROOT_MAP} of {names.SYSTEM_NAMESPACE}"]
        for issuer, *above in self.authorities:
            problems += verify_chain(issuer, above, self.roots, now)
        for root in self.roots:
            problems += verify_chain(root, (), (root,), now, horizon=horizon)
            if self.configured and root not in self.configured:
                problems.append(f"{subject(root)} is published, but not in caCertificates of the mesh configuration")
        return list(dict.fromkeys(problems))

    def expiring(self, now: datetime, horizon: timedelta) -> list[str]:
        """Issuing CAs that expire within the horizon: right if their signer renews them by itself."""
        return [
            f"{subject(issuer)} expires at {issuer.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
            for issuer in self.issuers
            if issuer not in self.roots and now + horizon > issuer.not_valid_after_utc
        ]

    def leaf_problems(self, leaf: x509.Certificate, above: Sequence[x509.Certificate], now: datetime) -> list[str]:
        """Why a workload's certificate, with those presented `above` it, does not chain to the published root."""
        return verify_chain(leaf, above, self.roots, now)


MeshCa = CaFiles | ExternalCa


def external_ca_of(istiods: Iterable[PodFacts]) -> str:
    """By which setting these istiods have another CA sign; empty if they sign themselves."""
    for pod in istiods:
        if kind := pod.istiod_env.get(EXTERNAL_CA, ""):
            return f"{EXTERNAL_CA}={kind}"
        if is_false(pod.istiod_env.get(CA_SERVER, "")):
            return f"{CA_SERVER}={pod.istiod_env[CA_SERVER]}"
    return ""


def external_ca(why: str, identities: Iterable[Identity], published: str, configured: Iterable[str]) -> ExternalCa:
    """From the proxies' certificates, the text of the published root, and those of the mesh configuration."""
    chains = dict.fromkeys(identity.chain for identity in identities)
    return ExternalCa(
        why=why,
        chains=tuple(chains),
        roots=parse_chain(published) if published else (),
        configured=tuple(cert for text in configured if text for cert in parse_chain(text)),
    )


def ca_of(kube: Kube, secrets: Sequence[str] = (names.CACERTS, SELF_SIGNED)) -> tuple[CaFiles | None, str]:
    """The CA in the first of these secrets that exists, or the API server's message if one may not be read."""
    for name in secrets:
        try:
            secret = kube.find("Secret", name, names.SYSTEM_NAMESPACE)
        except ApiError as problem:
            if problem.status != FORBIDDEN:
                raise
            return None, problem.reason
        if secret is not None:
            decoded = {key: base64.b64decode(text) for key, text in (secret.get("data") or {}).items()}
            return CaFiles(files=MappingProxyType(decoded), secret=name), ""
    return None, ""
