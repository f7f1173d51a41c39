"""By which account a cluster is read, what it may do, and which credentials of a cluster end."""

from __future__ import annotations

from collections.abc import Iterator

from meshproof.clients.istio.istioctl import READER_ACCOUNT
from meshproof.clients.kubernetes.client import Kube
from meshproof.core import names
from meshproof.core.errors import Unavailable
from meshproof.discovery.remote_secrets import RemoteSecret, remote_secrets
from meshproof.mesh.handles import Mesh
from meshproof.mesh.snapshot import CaFiles, ca_of
from meshproof.pki.verify import CA_CERT, CERT_CHAIN, ROOT_CERT, parse_chain, subject
from meshproof.upgrade.precheck.facts import Ending, Reader
from meshproof.upgrade.precheck.reader_role import account_of, reader_of
from meshproof.upgrade.precheck.reading import Reading


def reader_accounts(mesh: Mesh) -> dict[str, str]:
    """By cluster whose tokens lie in the others' remote secrets; the default account where that cannot be seen."""
    default = f"{names.SYSTEM_NAMESPACE}:{READER_ACCOUNT}"
    found: dict[str, str] = {}
    for secret in (secret for primary in mesh.primaries for secret in _secrets_or_none(primary.kube)):
        found.setdefault(secret.cluster, account_of(secret.token) or default)
    return {str(c.name): found.get(str(c.name), default) for c in mesh.clusters}


def _secrets_or_none(kube: Kube) -> tuple[RemoteSecret, ...]:
    try:
        return remote_secrets(kube)
    except Unavailable:
        return ()


def reader_in(reading: Reading, account: str) -> Reader | None:
    bindings, roles = reading.known("ClusterRoleBinding"), reading.known("ClusterRole")
    return None if bindings is None or roles is None else reader_of(account, bindings, roles)


def endings_in(reading: Reading) -> Iterator[Ending]:
    ca = reading.may(f"secret {names.CACERTS}", lambda: _ca(reading.kube), None)
    if ca is not None:
        for key in (CA_CERT, CERT_CHAIN, ROOT_CERT):
            try:
                chain = parse_chain(ca.files.get(key, b""))
            except ValueError:
                continue  # TRUST-01 says so
            for certificate in chain:
                what = f"{subject(certificate)} in {key} of secret {names.CACERTS}"
                yield Ending(what=what, ends=certificate.not_valid_after_utc)
    if reading.cluster.is_primary:
        for secret in reading.may("remote secrets", lambda: remote_secrets(reading.kube), ()):
            if secret.ends is not None:
                yield Ending(what=f"the token in remote secret {secret}", ends=secret.ends, token=True)


def _ca(kube: Kube) -> CaFiles | None:
    found, withheld = ca_of(kube)
    if withheld:
        raise Unavailable(f"secret {names.CACERTS}", withheld)
    return found
