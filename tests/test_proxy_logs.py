"""Lines of access logs that may be told: entries about the application, and nothing else."""

from __future__ import annotations

import pytest

from meshproof.failover.proxy_logs import is_entry

ENTRY = (
    '[2026-11-25T10:41:50.818Z] "GET / HTTP/1.1" 503 UC upstream_reset_before_response_started{connection_termination}'
    ' - "-" 0 95 337 - "-" "curl/7.88.1" "0c6c" "mockshop.meshproof-app:8080" "10.0.0.7:8080" inbound|8080||'
)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (ENTRY, True),
        (ENTRY.replace("mockshop.meshproof-app", "payments.bank"), False),
        ("2026-11-25T10:41:50Z info xdsproxy connected to upstream XDS server: mockshop", False),
        ("[2026-11-25 10:41:50.818][15][warning][config] mockshop", False),
    ],
)
def test_only_entries_about_the_application_are_told(line: str, told: bool) -> None:
    assert is_entry(line) is told
