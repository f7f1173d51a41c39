"""Generates deploy/clusterrole.yaml from the rights that a run needs, for administrators of clusters."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import yaml

from meshproof.clients.kubernetes.client import Json
from meshproof.clients.kubernetes.rbac import (
    FOR_CREDENTIALS,
    FOR_DISRUPTION,
    FOR_LOCALITIES,
    FOR_PULL_SECRET,
    FOR_SECRETS,
    FOR_STRICT_MESHES,
    FOR_UPGRADE_CHECK,
    NEEDED,
    AccessRule,
)

ROOT: Final = Path(__file__).resolve().parents[2]
FILE: Final = ROOT / "deploy" / "clusterrole.yaml"

VERIFY: Final = "meshproof-verify"
READ_SECRETS: Final = "meshproof-read-secrets"

_RBAC: Final = "rbac.authorization.k8s.io"
_HEADER: Final = f"""\
# The rights that meshproof needs on a cluster whose mesh it verifies. Apply it to each cluster, and bind what you need:
#
#   kubectl apply -f deploy/clusterrole.yaml
#   kubectl create clusterrolebinding {VERIFY} --clusterrole={VERIFY} --user=NAME
#
# Generated from src/meshproof/clients/kubernetes/rbac.py by
# `python -m tools.docs.cluster_role`: change it there. See docs/attach.md.
"""

ROLES: Final[tuple[tuple[str, str, tuple[AccessRule, ...]], ...]] = (
    (VERIFY, "Required for every run.", NEEDED),
    (
        READ_SECRETS,
        "Without it the claims about CAs, issuers and remote secrets are skipped. It allows reading all secrets.",
        FOR_SECRETS,
    ),
    (
        "meshproof-read-nodes",
        "Without it priorities of endpoints by locality are not compared with the nodes' regions and zones.",
        FOR_LOCALITIES,
    ),
    (
        "meshproof-strict-meshes",
        "Where the mesh has a default Sidecar (in its root namespace), or every node has a taint.",
        FOR_STRICT_MESHES,
    ),
    (
        "meshproof-upgrade-check",
        "For meshproof upgrade check and --upgrade-to: without it some of the rules report 'unknown'.",
        FOR_UPGRADE_CHECK,
    ),
    ("meshproof-credentials", "For --allow-credentials only.", FOR_CREDENTIALS),
    ("meshproof-pull-secret", "For --image-pull-secret only.", FOR_PULL_SECRET),
    ("meshproof-disruptive", "For --allow-disruptive only.", FOR_DISRUPTION),
)
"""Name, purpose, and rules."""


def current() -> str:
    """The text that the file should have."""
    return _HEADER + "".join(_document(*role) for role in ROLES)


def _document(name: str, why: str, rules: Iterable[AccessRule]) -> str:
    return f"---\n# {why}\n{yaml.safe_dump(cluster_role(name, rules), sort_keys=False, width=120)}"


def cluster_role(name: str, rules: Iterable[AccessRule]) -> Json:
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": [rule.as_rbac() for rule in rules],
    }


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(current())
    print(f"wrote {FILE}")
