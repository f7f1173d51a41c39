"""docs/claims.md, made from the claims that the suites declare."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Final

from meshproof.claims.claim import REGISTRY, render_claims_markdown

ROOT: Final = Path(__file__).resolve().parents[4]
DOCUMENT: Final = ROOT / "docs" / "claims.md"


def import_suites(root: Path = ROOT) -> None:
    """Import every test module below `suites/`, so that the registry knows its claims."""
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    for path in sorted(root.glob("suites/**/test_*.py")):
        importlib.import_module(".".join(path.relative_to(root).with_suffix("").parts))


def current() -> str:
    """The text that docs/claims.md should have."""
    import_suites()
    return render_claims_markdown(REGISTRY)


if __name__ == "__main__":
    DOCUMENT.write_text(current())
    print(f"wrote {DOCUMENT}")
