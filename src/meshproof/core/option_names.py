"""Command-line flags quoted by modules that cannot import the options themselves (`run/settings.py`)."""

from __future__ import annotations

from typing import Final

KEEP_FLAG: Final = "--keep"
ISTIO_VERSION_FLAG: Final = "--istio-version"
UPGRADE_TO_FLAG: Final = "--upgrade-to"
