"""Lost requests: which change closed their connections, and what proxies logged."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from meshproof.clients.envoy_admin import parse_listener_updates, parse_server_times
from meshproof.core.errors import Broken
from meshproof.failover.attribution import Attribution, ReplacedListener
from meshproof.failover.proxy_logs import parse_entry
from meshproof.load.history import Request, RequestOutcome
from tests.test_history import request
from tests.test_proxy_logs import ENTRY

CHANGED, FAULT = 1000.0, 1030.0
INBOUND = ReplacedListener(proxy="cluster1 shop/till-1", name="virtualInbound", at=CHANGED, closed=CHANGED + 45)


def lost_at(wall: float) -> Request:
    return replace(request(0, RequestOutcome.LOST), wall=wall, latency_s=0.25)


def test_a_loss_at_the_end_of_an_earlier_drain_is_not_the_faults() -> None:
    found = Attribution(lost=(lost_at(CHANGED + 44), lost_at(CHANGED + 46)), replaced=(INBOUND,))
    assert found.doubt(FAULT).startswith(
        "an earlier change closed the connections of the lost requests: cluster1 shop/till-1, whose listener "
        "virtualInbound was replaced at "
    )
    assert found.lines[0].startswith("  closed by   cluster1 shop/till-1, whose listener virtualInbound was replaced")


@pytest.mark.parametrize(
    ("lost", "injected"),
    [
        ((), FAULT),
        ((lost_at(CHANGED + 40),), FAULT),
        ((lost_at(CHANGED + 45), lost_at(CHANGED + 60)), FAULT),
        ((lost_at(CHANGED + 45),), CHANGED - 1),
    ],
    ids=["nothing lost", "another time", "one of two has another cause", "the fault came first"],
)
def test_any_other_loss_counts(lost: tuple[Request, ...], injected: float) -> None:
    assert Attribution(lost=lost, replaced=(INBOUND,)).doubt(injected) == ""


def test_the_text_has_what_proxies_logged_when_the_first_request_was_lost() -> None:
    entry = parse_entry(ENTRY)
    assert str(entry) == "503 UC upstream_reset_before_response_started{connection_termination}, inbound|8080|| at " + (
        "10.0.0.7:8080"
    )
    logged = {"cluster1 shop/till-1": [entry, replace(entry, at=entry.at + 60, summary="later")]}
    found = Attribution(lost=(lost_at(entry.at),), logged=logged)
    assert found.lines == (f"  logged by   cluster1 shop/till-1: {entry}",)


def test_an_entry_of_another_format_is_shown_as_it_is() -> None:
    assert str(parse_entry('[x] "mockshop"')) == '[x] "mockshop"'
    assert parse_entry('{"mockshop": 1}').at == 0.0


def test_when_listeners_were_replaced_is_read_from_envoy() -> None:
    dump = {
        "configs": [
            {"name": "virtualInbound", "active_state": {"last_updated": "2026-12-01T00:43:37.418Z"}},
            {"name": "warming"},
        ]
    }
    assert parse_listener_updates(json.dumps(dump)) == {"virtualInbound": 1796085817.418}
    info = {"uptime_current_epoch": "65s", "command_line_options": {"drain_time": "45s"}}
    times = parse_server_times(json.dumps(info), 1000.0)
    assert (times.started, times.drain_s) == (935.0, 45.0)
    with pytest.raises(Broken, match="uptime_current_epoch is 'None', not seconds"):
        parse_server_times("{}", 0.0)
