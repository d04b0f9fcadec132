import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from queue import Queue
from types import SimpleNamespace
from typing import Any

import pytest
from pynetdicom import AE, evt
from tests.integration.archive import HOST

from pneumoseg.pipeline.pacs.guard import GuardedServer, GuardedSocket


class Connection:
    """A guarded socket whose peer is this test.

    Attributes:
        peer: The other end.
        guarded: The socket.
        refused: Reasons of refusals.
        events: Handlers that it has bound.
    """

    def __init__(self) -> None:
        self.refused: list[str] = []
        self.events: dict[Any, Callable[[Any], None]] = {}
        self.peer, mine = socket.socketpair()
        association: Any = SimpleNamespace(
            bind=self.events.__setitem__,
            dul=SimpleNamespace(event_queue=Queue()),
            requestor=SimpleNamespace(address="10.0.0.1"),
        )
        self.guarded = GuardedSocket(
            association,
            mine,
            object_bytes=2**20,
            timeout_s=0.2,
            refuse=lambda why, _: self.refused.append(why),
        )


@pytest.fixture
def connection() -> Iterator[Connection]:
    found = Connection()
    yield found
    found.peer.close()
    if found.guarded.socket is not None:
        found.guarded.socket.close()


def test_bytes_that_come_in_pieces_are_put_together(connection: Connection) -> None:
    connection.peer.sendall(b"abc")
    threading.Timer(0.05, connection.peer.sendall, [b"def"]).start()
    assert connection.guarded.recv(6) == b"abcdef"
    assert connection.refused == []


def test_a_peer_that_hangs_up_gives_what_has_come(connection: Connection) -> None:
    connection.peer.sendall(b"abc")
    connection.peer.shutdown(socket.SHUT_WR)
    assert connection.guarded.recv(6) == b"abc"


def test_a_peer_that_stops_in_the_middle_is_cut_off(connection: Connection) -> None:
    connection.peer.sendall(b"abc")
    with pytest.raises(OSError, match="too slow"):
        connection.guarded.recv(6)
    assert connection.refused == ["the peer is too slow"]


def test_a_pdu_of_any_announced_length_is_not_read_into_memory(connection: Connection) -> None:
    with pytest.raises(OSError, match="larger than agreed"):
        connection.guarded.recv(2**32 - 1)


def test_an_object_of_many_small_pdus_is_bounded_and_the_next_one_counts_anew(connection: Connection) -> None:
    def receive(pieces: int) -> None:
        for _ in range(pieces):
            peer = threading.Thread(target=connection.peer.sendall, args=[b"x" * 2**17])
            peer.start()
            connection.guarded.recv(2**17)
            peer.join()

    receive(8)
    connection.events[evt.EVT_DIMSE_RECV](None)
    connection.events[evt.EVT_DIMSE_SENT](None)
    receive(8)
    with pytest.raises(OSError, match="the object is too large"):
        connection.guarded.recv(2**17)


def test_while_an_object_is_answered_the_next_one_may_not_come(connection: Connection) -> None:
    connection.events[evt.EVT_DIMSE_RECV](None)
    connection.peer.sendall(b"x" * 10)
    connection.guarded.recv(10)  # a release may
    with pytest.raises(OSError, match="before the last was answered"):
        connection.guarded.recv(2**13)


@pytest.fixture
def refused() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def server(refused: list[tuple[str, str]]) -> Iterator[GuardedServer]:
    """A server that lets in this machine's first address only, and one association."""
    entity = AE()
    entity.maximum_associations = 1
    entity.add_supported_context("1.2.840.10008.1.1")
    found = GuardedServer(
        entity,
        (HOST, 0),
        "PNEUMOSEG",
        entity.supported_contexts,
        evt_handlers=[],
        may_connect=lambda address: address == HOST,
        refuse=lambda why, address: refused.append((why, address)),
        object_bytes=2**20,
        timeout_s=1,
        tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
    )
    yield found
    found.server_close()


def test_an_unknown_address_is_refused(server: GuardedServer, refused: list[tuple[str, str]]) -> None:
    assert server.verify_request(None, (HOST, 1))
    assert not server.verify_request(None, ("127.0.0.2", 1))
    assert refused == [("the address is unknown", "127.0.0.2")]


def test_connections_are_bounded_before_they_are_associations(
    server: GuardedServer, refused: list[tuple[str, str]]
) -> None:
    found = [server.verify_request(None, (HOST, port)) for port in range(20)]
    assert sum(found) == 17  # one association, and sixteen that are rejected with an answer
    assert {why for why, _ in refused} == {"there are too many connections"}


def test_a_connection_that_fails_frees_its_place(
    server: GuardedServer, refused: list[tuple[str, str]]
) -> None:
    assert server.verify_request(None, (HOST, 1))
    mine, peer = socket.socketpair()
    peer.sendall(b"no TLS at all")
    peer.close()
    server.process_request_thread(mine, (HOST, 1))
    assert (server._entering, [why for why, _ in refused]) == (
        0,
        ["the connection failed before an association"],
    )
