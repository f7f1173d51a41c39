"""deploy/clusterrole.yaml says what rights.py does."""

from __future__ import annotations

import yaml

from meshproof.clients.kubernetes.rbac import FOR_DETECTION, FOR_RECORD, NEEDED, AccessRule
from tools.docs.cluster_role import FILE, READ_SECRETS, ROLES, VERIFY, current


def test_the_file_is_made_from_the_rights() -> None:
    assert FILE.read_text() == current(), "run `python -m tools.docs.cluster_role`"


def test_its_roles_have_their_names_and_rules() -> None:
    documents = list(yaml.safe_load_all(current()))
    assert [document["metadata"]["name"] for document in documents] == [name for name, _, _ in ROLES]
    assert {VERIFY, READ_SECRETS} < {name for name, _, _ in ROLES}
    assert documents[0]["rules"] == [rule.as_rbac() for rule in NEEDED]
    assert not any("secrets" in rule["resources"] for rule in documents[0]["rules"])


def each(rules: tuple[AccessRule, ...]) -> set[tuple[str, str, str]]:
    return {(rule.group, resource, verb) for rule in rules for resource in rule.resources for verb in rule.verbs}


def test_who_may_verify_may_look() -> None:
    assert each(FOR_DETECTION) < each(NEEDED)
    assert each(FOR_RECORD) < each(NEEDED)
