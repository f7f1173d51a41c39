"""Remote secrets: reading them, judging them, and never showing what is in them."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from meshproof.clients.kubernetes.client import ExecResult, Json
from meshproof.core.errors import Broken
from meshproof.discovery.remote_secrets import (
    Access,
    RemoteSecret,
    access_problems,
    parse_access,
    parse_secret,
    try_secret,
    written_problems,
)
from meshproof.pki.issue import make_root, make_workload
from tests.fakes import LocalKube, pod

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def jwt(**claims: object) -> str:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJSUzI1NiJ9.{body}.c2ln"


def secret(
    cluster: str = "cluster2", *, namespace: str = "istio-system", name: str = "s", annotated: str = "", **parts: Any
) -> Json:
    given = {"server": "https://198.18.2.2:6443", "token": jwt(sub="reader"), "ca": "CA"} | parts
    entry: Json = {
        "server": given["server"],
        "certificate-authority-data": base64.b64encode(given["ca"].encode()).decode(),
    }
    entry |= {"insecure-skip-tls-verify": True} if given.get("insecure") else {}
    config = {
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "y", "user": "z"}}],
        "clusters": [{"name": "y", "cluster": entry}],
        "users": [{"name": "z", "user": given.get("user", {"token": given["token"]})}],
    }
    return {
        "metadata": {
            "namespace": namespace,
            "name": name,
            "annotations": {"networking.istio.io/cluster": annotated or cluster},
        },
        "data": {cluster: base64.b64encode(yaml.safe_dump(config).encode()).decode()},
    }


def problems(*secrets: Json) -> list[str]:
    return written_problems([r for s in secrets for r in parse_secret(s)], "cluster2", NOW, DAY)


def test_a_good_secret_has_nothing_wrong() -> None:
    assert problems(secret()) == []
    assert problems(secret(token=jwt(exp=(NOW + 2 * DAY).timestamp()))) == []
    assert problems(secret(token="opaque")) == []


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            [secret(namespace="default")],
            [
                "default/s is not in istio-system, where istiod looks",
                "no secret in istio-system with label istio/multiCluster=true has the key cluster2",
            ],
        ),
        ([secret("west")], ["no secret in istio-system with label istio/multiCluster=true has the key cluster2"]),
        (
            [secret(name="a"), secret(name="b")],
            ["istio-system/a, istio-system/b have it: istiod uses one and rejects the others"],
        ),
        (
            [secret(annotated="west")],
            ["istio-system/s has the key cluster2, its annotation networking.istio.io/cluster is west"],
        ),
        ([secret(insecure=True)], ["istio-system/s does not verify the API server's certificate"]),
        (
            [secret(server="https://127.0.0.1:6443")],
            ["istio-system/s has the server https://127.0.0.1:6443, which for istiod is its own pod"],
        ),
        (
            [secret(token=jwt(exp=(NOW - DAY).timestamp()))],
            ["istio-system/s: its token expired at 2026-05-31 00:00 UTC"],
        ),
        (
            [secret(token=jwt(exp=(NOW + DAY / 2).timestamp()))],
            ["istio-system/s: its token expires at 2026-06-01 12:00 UTC"],
        ),
        ([secret(user={"exec": {}})], ["istio-system/s has no token (but exec)"]),
        (
            [{"metadata": {"namespace": "istio-system", "name": "s"}, "data": {"cluster2": "bm8="}}],
            ["istio-system/s holds no usable kubeconfig"],
        ),
    ],
)
def test_what_is_wrong_is_named(made: list[Json], said: list[str]) -> None:
    assert problems(*made) == said


def test_nothing_secret_is_shown() -> None:
    (record,) = parse_secret(secret(token="s3cret"))
    assert record.token == "s3cret"
    assert "s3cret" not in f"{record!r} {record}"


def answers(*replies: tuple[int, object], code: int = 0, complaint: str = "") -> str:
    bodies = "".join(f"{json.dumps(body)}\nmeshproof status {status:03d}\n" for status, body in replies)
    return f"{bodies}meshproof exit {code}\n{complaint}"


def test_rights_are_told_one_by_one() -> None:
    text = answers(
        (200, {"metadata": {"uid": "u2"}}), (201, {"status": {"allowed": True}}), (201, {"status": {"allowed": False}})
    )
    assert parse_access(text, ["list pods", "list nodes"]) == Access(uid="u2", denied=("list nodes",))


def test_a_server_that_is_not_reached_or_knows_no_token_is_an_error() -> None:
    away = answers((0, ""), (0, ""), code=7, complaint="curl: (7) Failed to connect\n")
    assert parse_access(away, ["list pods"]).error == "curl: (7) Failed to connect"
    unknown = answers((401, {"message": "Unauthorized"}), (401, {}))
    assert parse_access(unknown, ["list pods"]).error == "the API server rejects the token (HTTP 401)"


def test_too_few_answers_are_our_failure() -> None:
    with pytest.raises(Broken, match="1 of 2 answers"):
        parse_access(answers((200, {})), ["list pods"])
    with pytest.raises(Broken, match="curl printed nothing"):
        parse_access("", ["list pods"])


def test_credentials_are_judged_by_where_they_lead_and_what_they_may() -> None:
    uids = {"cluster1": "u1", "cluster2": "u2"}

    def judged(access: Access) -> list[str]:
        return access_problems(access, "u1", uids, "cluster2")

    assert judged(Access(uid="u2")) == []
    assert judged(Access(uid="u1")) == ["it leads to cluster1, istiod's own, not to cluster2"]
    assert judged(Access(uid="u9")) == ["it leads to a cluster that is not in the mesh, not to cluster2"]
    assert judged(Access(uid="u2", denied=("list pods",))) == ["its token may not list pods"]
    assert judged(Access(uid="u2", denied=("get pods", "list pods", "create x.y"))) == [
        "its token may not get, list pods",
        "its token may not create x.y",
    ]
    assert judged(Access(error="timed out")) == ["from istiod's network: timed out"]


def test_the_token_goes_by_standard_input_and_every_right_is_asked_for() -> None:
    class Spy(LocalKube):
        asked_for = ""

        def exec(self, namespace: str, pod: str, argv: object, **more: object) -> ExecResult:
            assert "s3cret" not in str(argv)
            self.asked_for = str(more["stdin"])
            count = self.asked_for.count("SelfSubjectAccessReview")
            allowed = [(201, {"status": {"allowed": True}})] * count
            text = answers((200, {"metadata": {"uid": "u2"}}), *allowed)
            return ExecResult(stdout=text, stderr="", exit_code=0)

    kube = Spy()
    (record,) = parse_secret(secret(token="s3cret"))
    assert isinstance(record, RemoteSecret)
    assert try_secret(kube, pod("client"), record, controlled=False) == Access(uid="u2")
    assert kube.asked_for.count("next\n") == kube.asked_for.count("SelfSubjectAccessReview") > 0
    assert try_secret(kube, pod("client"), record, controlled=True) == Access(uid="u2")
    assert "mutatingwebhookconfigurations" in kube.asked_for


def test_a_client_certificate_is_as_good_as_a_token() -> None:
    """istiod accepts both (pkg/kube/multicluster); it too ends, and its key goes by standard input only."""
    issuer = make_root(now=NOW - DAY)
    chain, key = make_workload(issuer, "spiffe://reader", now=NOW, life=DAY / 2)
    data = {
        "client-certificate-data": base64.b64encode(chain).decode(),
        "client-key-data": base64.b64encode(key).decode(),
    }
    made = secret(user=data)
    assert problems(made) == ["istio-system/s: its client certificate expires at 2026-06-01 12:00 UTC"]
    assert problems(secret(user={"client-certificate-data": data["client-certificate-data"]})) == [
        "istio-system/s has no token (but client-certificate-data)"
    ]

    class Spy(LocalKube):
        def exec(self, namespace: str, pod: str, argv: object, **more: object) -> ExecResult:
            stdin = str(more["stdin"])
            assert "PRIVATE" not in str(argv)
            assert "meshproof file key\n-----BEGIN RSA PRIVATE" in stdin
            assert 'cert = "cert"\nkey = "key"' in stdin
            assert "Authorization" not in stdin
            allowed = [(201, {"status": {"allowed": True}})] * stdin.count("SelfSubjectAccessReview")
            return ExecResult(stdout=answers((200, {"metadata": {"uid": "u2"}}), *allowed), stderr="", exit_code=0)

    (record,) = parse_secret(made)
    assert "PRIVATE" not in repr(record)
    assert try_secret(Spy(), pod("client"), record, controlled=False) == Access(uid="u2")
