"""Evidence of claims: files in one folder per topology and claim."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from meshproof.core.errors import Broken
from meshproof.core.path_options import NAME_FOLDER, reason_of

SECRETS: Final = re.compile(r"PRIVATE KEY-----|client-key-data|\btoken:\s*\S|eyJhbGciOi")
"""Signs of keys, kubeconfigs and tokens (a JWT's header begins with `{"alg":`, `eyJhbGciOi` in base64)."""


SUFFIXES: Final = frozenset({".csv", ".json", ".md", ".svg", ".txt", ".yaml"})
"""What counts as a suffix; a name may have an address in it, which has dots too."""


class Evidence:
    """Collects files in a folder that is emptied first, and figures for the verdict; nothing secret gets in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: list[Path] = []
        self.figures: dict[str, Mapping[str, float]] = {}
        shutil.rmtree(folder, ignore_errors=True)

    def attach(self, name: str, content: str | object) -> Path:
        """Write text as it is, anything else as JSON; `name` gets its suffix from that unless it has one.

        Raises `Broken` if the content looks like a key, a token or a kubeconfig, or cannot be written.
        """
        text = content if isinstance(content, str) else json.dumps(content, indent=2, default=str, sort_keys=True)
        if SECRETS.search(text):
            raise Broken(
                f"evidence {name}", "it looks like a key, a token or a kubeconfig", "attach less: this is a bug"
            )
        suffix = "" if Path(name).suffix in SUFFIXES else ".txt" if isinstance(content, str) else ".json"
        path = self.folder / f"{name}{suffix}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        except OSError as problem:
            raise Broken(f"evidence {path}", reason_of(problem), NAME_FOLDER) from None
        if path not in self.files:
            self.files.append(path)
        return path
