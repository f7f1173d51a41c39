"""What a `verdict.yaml` says about one topology, read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from meshproof.claims.results import Result
from meshproof.core.errors import BadInput
from meshproof.core.path_options import read_text
from meshproof.report.diagram.model import Proof
from meshproof.report.verdict import SCHEMA

REPAIR: Final = "name a verdict.yaml that a run has written, for example reports/verdict.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadVerdict:
    """Results by topology, and the versions of Kubernetes by cluster."""

    path: Path
    topologies: Mapping[str, tuple[Proof, ...]]
    kubernetes: Mapping[str, str]

    def of(self, topology: str) -> tuple[Proof, ...]:
        """Raises `BadInput` if the run was about other topologies."""
        if topology not in self.topologies:
            raise BadInput(
                f"--verdict={self.path}",
                f"it says nothing about {topology}",
                f"use --topology={' | '.join(self.topologies)}, or run the claims on {topology}",
            )
        return self.topologies[topology]


def read_verdict(path: Path) -> ReadVerdict:
    """Raises `BadInput` if it cannot be read, is no verdict, or holds no result."""
    text = read_text(f"--verdict={path}", path, REPAIR)
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as problem:
        reason = str(problem).splitlines()[0]
        raise BadInput(f"--verdict={path}", f"not valid YAML: {reason}", REPAIR) from None
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema != SCHEMA:
        raise BadInput(f"--verdict={path}", f"its schema is {schema}, not {SCHEMA}", REPAIR)
    try:
        topologies = {str(name): _proofs(told["claims"]) for name, told in data["topologies"].items()}
        kubernetes = {str(name): str(version) for name, version in (data.get("kubernetes") or {}).items()}
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise BadInput(f"--verdict={path}", f"it is damaged: {problem!r}", REPAIR) from None
    if not topologies:
        raise BadInput(f"--verdict={path}", "it holds no result", REPAIR)
    return ReadVerdict(path=path, topologies=topologies, kubernetes=kubernetes)


def _proofs(claims: Mapping[str, Any]) -> tuple[Proof, ...]:
    return tuple(
        Proof(code=str(code), result=Result(row["result"]), text=str(row.get("reason", "")))
        for code, row in claims.items()
    )
