"""Links from a report to docs/claims.md on the web."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

DOCUMENT: Final = "docs/claims.md"
VARIABLE: Final = "MESHPROOF_CLAIMS_URL"


def claim_url(code: str, environment: Mapping[str, str]) -> str | None:
    """The claim's row in the document that `MESHPROOF_CLAIMS_URL` names; in CI of GitHub or GitLab that
    of the run's commit; else None, since Allure supports web links only.
    """
    document = environment.get(VARIABLE) or _of_forge(environment)
    return f"{document}#{code}" if document else None


def _of_forge(environment: Mapping[str, str]) -> str | None:
    server, repository = environment.get("GITHUB_SERVER_URL"), environment.get("GITHUB_REPOSITORY")
    if server and repository and (commit := environment.get("GITHUB_SHA")):
        return f"{server}/{repository}/blob/{commit}/{DOCUMENT}"
    project = environment.get("CI_PROJECT_URL")
    if project and (commit := environment.get("CI_COMMIT_SHA")):
        return f"{project}/-/blob/{commit}/{DOCUMENT}"
    return None
