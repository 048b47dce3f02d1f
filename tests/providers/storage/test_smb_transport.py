"""The socket below an SMB connection ends every wait, and moves messages whole."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from purveyor.providers.storage.smb_transport import Transport

STALL = 0.2


@pytest.fixture
def ends() -> Iterator[tuple[Transport, socket.socket]]:
    """A transport with small buffers, and the other end of its line."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        transport = Transport("127.0.0.1", listener.getsockname()[1], 5, STALL)
        transport.connect()
        assert transport._socket is not None
        transport._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        peer, _ = listener.accept()
        with peer:
            yield transport, peer
        transport.close()
        transport.release()


def received(peer: socket.socket) -> bytes:
    size = int.from_bytes(peer.recv(4, socket.MSG_WAITALL), "big")
    return peer.recv(size, socket.MSG_WAITALL)


def test_a_message_that_does_not_fit_at_once_arrives_whole(ends: tuple[Transport, socket.socket]):
    transport, peer = ends
    message = os.urandom(3_000_000)
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(transport.send, message)
        assert received(peer) == message
        sending.result()


def test_messages_of_several_threads_do_not_mix(ends: tuple[Transport, socket.socket]):
    transport, peer = ends
    messages = [bytes([number]) * 200_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        sending = [pool.submit(transport.send, message) for message in messages]
        arrived = [received(peer) for _ in messages]
        for one in sending:
            one.result()
    assert sorted(arrived) == messages


def test_sending_to_who_reads_no_more_ends(ends: tuple[Transport, socket.socket]):
    transport, _ = ends
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        transport.send(bytes(10_000_000))
    assert STALL <= time.monotonic() - started < 3
    assert not transport.connected  # half a message went: nothing can follow it
    with pytest.raises(ConnectionResetError):
        transport.send(b"more")


def test_closing_ends_a_send_that_waits(ends: tuple[Transport, socket.socket]):
    transport, _ = ends
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(transport.send, bytes(10_000_000))
        closing = threading.Timer(STALL / 4, transport.close)
        closing.start()
        assert isinstance(sending.exception(timeout=5), OSError)
        closing.join()


def test_a_message_in_pieces_is_received_whole(ends: tuple[Transport, socket.socket]):
    transport, peer = ends
    message = os.urandom(100_000)
    framed = len(message).to_bytes(4, "big") + message
    with ThreadPoolExecutor(1) as pool:
        receiving = pool.submit(transport.recv, 5)
        for begin in range(0, len(framed), 30_001):
            peer.sendall(framed[begin : begin + 30_001])
        assert receiving.result() == message


def test_a_line_on_which_nothing_comes_is_told(ends: tuple[Transport, socket.socket]):
    transport, _ = ends
    with pytest.raises(TimeoutError):
        transport.recv(STALL / 2)
    assert transport.connected  # it is silent, not broken


@pytest.mark.parametrize("sent", [b"", b"\0\0", b"\0\0\0\x09half"])
def test_a_line_that_ends_is_told(ends: tuple[Transport, socket.socket], sent: bytes):
    transport, peer = ends
    peer.sendall(sent)
    peer.close()
    assert transport.recv(5) is None
    assert not transport.connected
