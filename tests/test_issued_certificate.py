"""Requesting a certificate of the mesh as an agent does, without a client for gRPC."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from meshproof.core.errors import ClaimFailed
from meshproof.pki.issue import make_intermediate, make_root, make_workload
from meshproof.pki.verify import parse_chain, spiffe_ids
from meshproof.probes import issued_certificate
from meshproof.probes.issued_certificate import csr, framed, issued_to
from meshproof.probes.istiod_api import IstiodReply, _octal
from tests.fakes import LocalKube, pod

ID = "spiffe://cluster.local/ns/meshproof-outside/sa/default"
LIFE = timedelta(minutes=10)


def test_a_request_has_the_spiffe_id_and_no_subject() -> None:
    request = x509.load_pem_x509_csr(csr(ec.generate_private_key(ec.SECP256R1()), ID).encode())
    san = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert san.critical
    assert san.value.get_values_for_type(x509.UniformResourceIdentifier) == [ID]
    assert not list(request.subject)


def test_the_message_is_what_protobuf_writes() -> None:
    """By hand after the wire format's documentation: 600 is 0xd8 0x04 as a varint."""
    assert framed("ab\n", LIFE, "") == (b"\x00\x00\x00\x00\x08\x0a\x03", b"\x18\xd8\x04")
    before, after = framed("ab\n", LIFE, "foo")
    metadata = b"\x0a\x13\x0a\x0aCertSigner\x12\x05\x1a\x03foo"
    assert after == b"\x18\xd8\x04\x22" + bytes([len(metadata)]) + metadata
    assert before == b"\x00" + (8 + 2 + len(metadata)).to_bytes(4, "big") + b"\x0a\x03"


@pytest.mark.skipif(shutil.which("sh") is None, reason="this machine has no sh")
def test_any_bytes_get_through_a_shell() -> None:
    data = bytes(range(256)) + b"%n\\1"
    assert (
        subprocess.run(["sh", "-c", f"printf '{_octal(data)}'"], check=True, capture_output=True, timeout=30).stdout
        == data
    )


def test_the_answer_is_a_client_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for where the proxy of the given pod gets its own, for its signer."""
    chain = make_workload(make_intermediate(make_root(), locality="x"), ID)[0].decode()
    asked: dict[str, object] = {}

    def answer(*_: object, **how: object) -> IstiodReply:
        asked.update(how)
        return IstiodReply(http=200, grpc=0, message="", body=f"\ufffd\x00\n\ufffd\x01{chain}\n")

    monkeypatch.setattr(issued_certificate, "call_istiod", answer)
    monkeypatch.setattr(issued_certificate, "token_of", lambda *_: "token")
    like = replace(
        pod("client"), proxy_env={"CA_ADDR": "istio-csr.cert-manager.svc:443", "ISTIO_META_CLUSTER_ID": "c1"}
    )
    found = issued_to(LocalKube(), pod("outside"), ID, like=like, istiod="istiod", root="ROOT", life=LIFE)
    assert spiffe_ids(parse_chain(found.leaf)[0]) == (ID,)
    assert len(parse_chain(found.above)) == 2
    assert (asked["host"], asked["port"], asked["ca"]) == ("istio-csr.cert-manager.svc", 443, "ROOT")
    assert asked["headers"] == {"authorization": "Bearer token", "clusterid": "c1"}


def test_a_mesh_that_issues_none_is_the_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        issued_certificate, "call_istiod", lambda *_, **__: IstiodReply(http=200, grpc=13, message="no signer")
    )
    monkeypatch.setattr(issued_certificate, "token_of", lambda *_: "token")
    with pytest.raises(ClaimFailed, match=rf"istiod:15012 issued no certificate to {ID}: gRPC status 13: no signer"):
        issued_to(LocalKube(), pod("outside"), ID, like=pod("client"), istiod="istiod", root="", life=LIFE)
