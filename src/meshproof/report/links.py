"""Where a reader of a report finds docs/claims.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

DOCUMENT: Final = "docs/claims.md"
FROM_REPORT: Final = f"../../{DOCUMENT}"
"""From the page in `reports/allure-report`, as it is rendered in a checkout."""


def claim_url(code: str, environment: Mapping[str, str]) -> str:
    """The claim's row: on GitHub or GitLab if their CI runs us, at the commit of the run; else beside the report."""
    return f"{_document(environment)}#{code}"


def _document(environment: Mapping[str, str]) -> str:
    server, repository = environment.get("GITHUB_SERVER_URL"), environment.get("GITHUB_REPOSITORY")
    if server and repository and (commit := environment.get("GITHUB_SHA")):
        return f"{server}/{repository}/blob/{commit}/{DOCUMENT}"
    project = environment.get("CI_PROJECT_URL")
    if project and (commit := environment.get("CI_COMMIT_SHA")):
        return f"{project}/-/blob/{commit}/{DOCUMENT}"
    return FROM_REPORT
