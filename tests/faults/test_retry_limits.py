"""How often a request is tried, and which ones never twice."""

from __future__ import annotations

import time

import pytest

from support.http import Request, chunked, request_bytes
from support.proxies import entry
from support.scripts import sends
from support.server import Conversation, Script
from support.stage import Stage


def status(code: int) -> Script:
    """Always answers `code`."""

    async def script(peer: Conversation, request: Request) -> None:
        await peer.respond(b"%d" % code, code)

    return script


async def test_tries_are_bounded(stage: Stage) -> None:
    servers = [await stage.server(sends(b"", "close")) for _ in range(5)]
    await stage.proxy(*servers, pool={"max_fails": 0})
    assert (await stage.get()).status == 502
    assert sum(len(server.requests) for server in servers) == 3


async def test_never_more_tries_than_servers(stage: Stage) -> None:
    server = await stage.server(sends(b"", "close"))
    await stage.proxy(server, pool={"max_fails": 0, "retry": {"tries": 9}})
    assert (await stage.get()).status == 502
    assert len(server.requests) == 1


async def test_one_try_means_no_retry(stage: Stage) -> None:
    servers = [await stage.server(sends(b"", "close")) for _ in range(2)]
    await stage.proxy(*servers, pool={"max_fails": 0, "retry": {"tries": 1}})
    assert (await stage.get()).status == 502
    assert sum(len(server.requests) for server in servers) == 1


async def test_tries_are_bounded_in_time(stage: Stage) -> None:
    addresses = [stage.blackhole() for _ in range(8)]
    pool = {
        "timeouts": {"connect": "300ms"},
        "retry": {"tries": 8, "timeout": "400ms"},
        "max_fails": 0,
    }
    await stage.proxy(*addresses, pool=pool)
    began = time.monotonic()
    assert (await stage.get()).status in (502, 503, 504)
    # Without that bound it would take eight connect timeouts.
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("code", [502, 503, 504])
async def test_a_bad_gateway_status_moves_a_get_on(stage: Stage, code: int) -> None:
    bad = await stage.server(status(code))
    good = await stage.server()
    await stage.proxy(bad, good)
    assert [(await stage.get()).status for _ in range(4)] == [200] * 4
    assert bad.requests


async def test_when_every_server_says_503_the_client_gets_a_servers_503(stage: Stage) -> None:
    await stage.proxy(await stage.server(status(503)), await stage.server(status(503)))
    response = await stage.get()
    assert (response.status, response.body) == (503, b"503")


@pytest.mark.parametrize("code", [500, 404, 429])
async def test_other_statuses_are_the_servers_answer(stage: Stage, code: int) -> None:
    await stage.proxy(await stage.server(status(code)), await stage.server(status(code)))
    assert (await stage.get()).status == code
    assert sum(len(server.requests) for server in stage.servers) == 1


async def test_a_503_for_a_post_is_passed_on(stage: Stage) -> None:
    bad = [await stage.server(status(503)) for _ in range(2)]
    await stage.proxy(*bad)
    assert (await stage.post()).status == 503
    assert sum(len(server.requests) for server in bad) == 1


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST", "PATCH"])
async def test_a_body_that_a_server_may_have_read_is_never_sent_twice(stage: Stage, method: str) -> None:
    """PUT and DELETE are idempotent, but their body is gone: streamed, not kept."""
    bad = [await stage.server(sends(b"", "reset")) for _ in range(3)]
    await stage.proxy(*bad, pool={"max_fails": 0})
    assert (await stage.ask(method, body=b"x" * 1000)).status == 502
    assert sum(len(server.requests) for server in bad) == 1


async def test_a_chunked_post_that_meets_a_refusal_arrives_whole_elsewhere(stage: Stage) -> None:
    good = await stage.server()
    await stage.proxy(stage.refused(), good, pool={"max_fails": 0})
    for _ in range(2):
        client = await stage.connect()
        fields = {"Transfer-Encoding": "chunked"}
        head = request_bytes("POST", fields=fields)
        assert (await client.raw(head + chunked(b"one", b"two"))).status == 200
    assert [request.body for request in good.requests] == [b"onetwo"] * 2


async def test_a_large_upload_that_meets_refusals_arrives_whole_elsewhere(stage: Stage) -> None:
    """What came of the body before there was a connection waits, and the client is held back."""
    good = await stage.server()
    pool = {"timeouts": {"connect": "1s"}, "max_fails": 0}
    await stage.proxy(stage.refused(), stage.blackhole(), good, pool=pool)
    body = bytes(range(256)) * 40_000
    for _ in range(3):
        assert (await stage.post(body=body)).status == 200
    assert [request.body == body for request in good.requests] == [True] * 3


async def test_the_second_try_goes_to_another_server(stage: Stage) -> None:
    bad = await stage.server(sends(b"", "close"))
    good = await stage.server()
    await stage.proxy(entry(bad, weight=100), good, pool={"max_fails": 0})
    for _ in range(5):
        assert (await stage.get()).body == b"server2"
    assert len(bad.requests) == 5
