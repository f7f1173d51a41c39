"""Generates docs/claims.md from the claims that the suites declare."""

from __future__ import annotations

from typing import Final

from meshproof.claims.claim import REGISTRY, render_claims_markdown
from meshproof.claims.suite_run import ROOT, import_suites

DOCUMENT: Final = ROOT / "docs" / "claims.md"


def current() -> str:
    """The text that docs/claims.md should have."""
    import_suites()
    return render_claims_markdown(REGISTRY)


if __name__ == "__main__":
    DOCUMENT.write_text(current())
    print(f"wrote {DOCUMENT}")
