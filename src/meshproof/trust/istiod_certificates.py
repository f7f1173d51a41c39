"""The certificates that istiod serves, under the names that its clients dial."""

from __future__ import annotations

from datetime import datetime

from cryptography import x509

from meshproof.core import names
from meshproof.mesh.handles import Cluster
from meshproof.mesh.webhooks import injection_webhooks
from meshproof.pki.verify import dns_names, verify_chain
from meshproof.probes.tls import TlsAnswer


def istiod_targets(cluster: Cluster) -> set[tuple[str, int]]:
    """Host and port of istiod as its API server (webhooks) and its proxies dial them in one cluster."""
    hooks = [hook for hook in injection_webhooks(cluster.kube) if hook.host]
    hosts = {hook.host for hook in hooks} or {f"{cluster.spec.istiod}.{names.SYSTEM_NAMESPACE}.svc"}
    return {(hook.host, hook.port) for hook in hooks} | {
        (host, names.PORT_XDS) for host in hosts if host.endswith(f".{names.SYSTEM_NAMESPACE}.svc")
    }


def serving_problems(answer: TlsAnswer, host: str, roots: tuple[x509.Certificate, ...], now: datetime) -> list[str]:
    """Why a client that dials `host` and trusts `roots` would not accept the certificate."""
    if not answer.completed:
        return [str(answer)]
    leaf, served = answer.chain[0], dns_names(answer.chain[0])
    named = [] if host in served else [f"its certificate names {', '.join(served) or 'no host'}, not {host}"]
    return named + verify_chain(leaf, answer.chain[1:], roots, now)
