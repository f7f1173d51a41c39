"""Calls to istiod with curl, and what its answers mean. The texts were recorded on a mesh of Istio 1.31."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest

from meshproof.clients.kubernetes.client import ApiError
from meshproof.core.errors import Broken
from meshproof.gateways.istiod_ports import BAD_TOKEN, NO_TOKEN, VALID_TOKEN, review_problems, token_problems
from meshproof.mesh.webhooks import parse_webhook
from meshproof.probes.istiod_api import IstiodReply, call_istiod, parse_call, review, token_of
from meshproof.probes.pod_script import Output
from tests.fakes import LocalKube, pod

CLIENT = pod("client")
DONE = Output(text="", exit_code=0)
TRAILERS_ONLY = """\
HTTP/2 200
content-type: application/grpc
grpc-status: 16
grpc-message: authentication failure

"""
KNOWN = TRAILERS_ONLY.replace("16", "3").replace("authentication failure", "missing node information")
UNVERIFIED = Output(
    text="curl: (60) SSL certificate problem: self-signed certificate in certificate chain\n"
    "More details here: https://curl.se/docs/sslcerts.html\n\n",
    exit_code=60,
)


def test_a_refused_caller_and_a_known_one_are_told_apart() -> None:
    refused, known = parse_call(DONE, TRAILERS_ONLY, "", "xDS"), parse_call(DONE, KNOWN, "", "xDS")
    assert (refused.refused, refused.let_in, str(refused)) == (True, False, "gRPC status 16: authentication failure")
    assert (known.refused, known.let_in, str(known)) == (False, True, "gRPC status 3: missing node information")


def test_tls_that_does_not_verify_is_no_answer() -> None:
    call = parse_call(UNVERIFIED, "", "", "xDS")
    assert not call.refused
    assert not call.let_in
    assert str(call) == "no response (curl: (60) SSL certificate problem: self-signed certificate in certificate chain)"


def test_a_pod_that_says_nothing_is_our_failure() -> None:
    with pytest.raises(Broken, match=r"curl did not run: 'sh: curl: not found'\n.*needs curl with HTTP/2"):
        parse_call(Output(text="sh: curl: not found\n", exit_code=127), "", "", "xDS")


def test_each_caller_gets_what_it_deserves() -> None:
    refused, known = (parse_call(DONE, text, "", "xDS") for text in (TRAILERS_ONLY, KNOWN))
    silent = parse_call(UNVERIFIED, "", "", "xDS")
    assert (
        token_problems(NO_TOKEN, refused)
        == token_problems(BAD_TOKEN, refused)
        == token_problems(VALID_TOKEN, known)
        == []
    )
    assert token_problems(NO_TOKEN, known) == ["was not rejected (gRPC status 3: missing node information)"]
    assert token_problems(VALID_TOKEN, refused) == [
        "positive control failed: a client with a valid token was rejected (gRPC status 16: authentication failure)"
    ]
    assert token_problems(NO_TOKEN, silent)[0].startswith("no response (curl: (60)")


def answered(**response: Any) -> IstiodReply:
    return IstiodReply(http=200, grpc=None, message="", body=json.dumps({"response": response}))


def test_an_injection_is_an_allowed_review_with_a_patch() -> None:
    assert review_problems(answered(allowed=True, patch="W10=")) == []
    assert review_problems(answered(allowed=True)) == [
        "the response has no patch: the pod would start without a sidecar"
    ]
    assert review_problems(answered(allowed=False, status={"message": "no"})) == ["denied: no"]
    assert review_problems(IstiodReply(http=200, grpc=None, message="", body="hello")) == [
        "the response is not an admission review: 'hello'"
    ]
    assert review_problems(IstiodReply(http=404, grpc=None, message="not found")) == ["HTTP 404: not found"]
    assert review_problems(parse_call(UNVERIFIED, "", "", "x"))[0].startswith("no response (curl: (60)")


def test_a_review_asks_for_a_dry_run() -> None:
    assert review("meshproof-clients")["request"]["dryRun"] is True


@pytest.mark.skipif(shutil.which("curl") is None, reason="this machine has no curl")
def test_a_closed_port_is_told_in_curls_words() -> None:
    call = call_istiod(
        LocalKube(), CLIENT, host="a.b.svc", port=1, target=("127.0.0.1", 1), path="/x", ca="none", headers={}
    )
    assert call.error.startswith("curl: (")


def test_tokens_are_not_in_arguments() -> None:
    class Spy(LocalKube):
        def exec(self, namespace: str, pod: str, argv: object, **more: object) -> object:  # type: ignore[override]
            assert "s3cret" not in str(argv)
            assert "s3cret" in str(more["stdin"])
            raise Broken("exec", "seen enough")

    with pytest.raises(Broken, match="seen enough"):
        call_istiod(
            Spy(),
            CLIENT,
            host="h",
            port=1,
            target=("127.0.0.1", 1),
            path="/",
            ca="c",
            headers={"authorization": "Bearer s3cret"},
        )


def test_a_token_is_asked_for_without_storing_anything() -> None:
    class Tokens(LocalKube):
        def request(self, method: str, path: str, **more: Any) -> bytes:
            assert (method, path) == ("POST", "/api/v1/namespaces/ns/serviceaccounts/default/token")
            assert more["body"]["spec"]["audiences"] == ["istio-ca"]
            return b'{"status": {"token": "abc"}}'

    class Forbidden(LocalKube):
        def request(self, *args: Any, **more: Any) -> bytes:
            raise ApiError("POST", 403, "forbidden")

    assert token_of(Tokens(), CLIENT) == "abc"
    with pytest.raises(Broken, match="grant the right to create serviceaccounts/token"):
        token_of(Forbidden(), CLIENT)


def test_a_webhook_leads_to_a_service_or_to_an_address() -> None:
    service = {"name": "istiod", "namespace": "istio-system", "path": "/inject", "port": 443}
    by_service = parse_webhook({"name": "a", "clientConfig": {"service": service, "caBundle": "Y2E="}})
    assert (str(by_service), by_service.ca) == ("istiod.istio-system.svc:443/inject", "ca")
    by_url = parse_webhook({"name": "b", "clientConfig": {"url": "https://istiod.example:15017/inject/x"}})
    assert (str(by_url), by_url.ca) == ("istiod.example:15017/inject/x", "")
    assert parse_webhook({"clientConfig": {"caBundle": "not base64!"}}).ca == ""
