"""Allure's categories: failures by family of claims, and what is no failure of the mesh apart from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from meshproof.claims import Family

NAME: Final = "categories.json"

_MEANING: Final = {
    Family.TRUST: "certificates, roots and identities",
    Family.DISCOVERY: "what control planes and proxies know",
    Family.GATEWAYS: "what gateways expose and refuse",
    Family.CONTROL: "injection, configuration and versions",
    Family.TRAFFIC: "what requests meet",
    Family.FAILOVER: "what still works while parts are dead",
    Family.UPGRADE: "before and during an Istio upgrade",
}


def categories() -> list[dict[str, Any]]:
    """One per family, by the code at the beginning of a failure's text (Allure has that as the trace)."""
    families = [
        {
            "name": f"{family}: {_MEANING[family]}",
            "matchedStatuses": ["failed"],
            "traceRegex": rf"(?s)\s*{family}-\d\d .*",
        }
        for family in Family
    ]
    return [
        *families,
        {"name": "BROKEN: nothing is known about the mesh", "matchedStatuses": ["broken"]},
        {"name": "not available here, or does not apply", "matchedStatuses": ["skipped"]},
    ]


def write_categories(folder: Path) -> Path:
    """Write them where Allure looks: beside the results."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    path.write_text(json.dumps(categories(), indent=2) + "\n")
    return path
