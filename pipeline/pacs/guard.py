"""Guard pynetdicom's connections: who may connect, how many bytes may come, and how long a peer may take.

pynetdicom reads a PDU of any announced length into memory, waits for ever for the rest of one, and performs a TLS
handshake before it accepts the next connection. The classes here replace its socket and its server to bound all three.
"""

import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, Final

from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

PDU_BYTES: Final = 2**17
"""Largest P-DATA PDU that peers are asked to send."""
# a request of 128 presentation contexts with 30 transfer syntaxes each needs half of it
_OTHER_BYTES: Final = 2**18
_WHILE_BUSY: Final = 2**12  # a release or an abort may come before the response; the next object may not
_WAITING: Final = 16  # connections beyond the limit of associations that are answered with a rejection

Refuse = Callable[[str, str], None]
"""Note a refusal: its reason, and the address of the peer."""


class GuardedSocket(AssociationSocket):
    """Socket of an association that ends when the peer sends too much or takes too long.

    Args:
        assoc: Association of the socket.
        client_socket: Accepted connection.
        object_bytes: Largest number of bytes of an object and its command.
        timeout_s: Seconds for each PDU, and for each send.
        refuse: Called with the reason for the end.
    """

    def __init__(
        self,
        assoc: Association,
        client_socket: socket.socket,
        *,
        object_bytes: int,
        timeout_s: float,
        refuse: Refuse,
    ) -> None:
        client_socket.settimeout(timeout_s)
        super().__init__(assoc, client_socket=client_socket)
        self.object_bytes = object_bytes
        self.timeout_s = timeout_s
        self._refuse = refuse
        self._received = 0
        self._is_busy = False
        assoc.bind(evt.EVT_DIMSE_RECV, lambda _: self._begin_message(busy=True))
        assoc.bind(evt.EVT_DIMSE_SENT, lambda _: self._begin_message(busy=False))

    def _begin_message(self, *, busy: bool) -> None:
        """Count the bytes of the next message; while one is answered, hardly any may come."""
        self._received, self._is_busy = 0, busy

    def recv(self, nr_bytes: int) -> bytearray:
        """Read bytes.

        Args:
            nr_bytes: Number of bytes.

        Returns: The bytes; fewer if the peer has closed the connection.
        Raises: OSError: If these are too many, or too slow.
        """
        self._received += nr_bytes
        if nr_bytes > _OTHER_BYTES:
            raise self._end("a PDU is larger than agreed")
        if self._received > (_WHILE_BUSY if self._is_busy else self.object_bytes):
            raise self._end(
                "a message came before the last was answered" if self._is_busy else "the object is too large"
            )
        assert self.socket is not None  # noqa: S101  (pynetdicom reads from an open socket)
        buffer = bytearray(nr_bytes)
        view, position, end = memoryview(buffer), 0, time.monotonic() + self.timeout_s
        while position < nr_bytes:
            if time.monotonic() > end:
                raise self._end("the peer is too slow")
            try:
                count = self.socket.recv_into(view[position:])
            except TimeoutError:
                raise self._end("the peer is too slow") from None
            if count == 0:
                return bytearray(view[:position])
            position += count
        return buffer

    def _end(self, why: str) -> OSError:
        address = self.assoc.requestor.address or ""
        self._refuse(why, address)
        self._shutdown_socket()
        return OSError(why)


class _Handler(RequestHandler):
    """Perform the TLS handshake in the thread of the connection, and make its association."""

    server: "GuardedServer"

    def handle(self) -> None:
        if self.server.tls is not None:
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        super().handle()

    def _create_association(self) -> Association:
        association = super()._create_association()
        association.dul.socket = GuardedSocket(
            association,
            self.request,
            object_bytes=self.server.object_bytes,
            timeout_s=self.server.timeout_s,
            refuse=self.server.refuse,
        )
        association.dul.event_queue.get_nowait()  # the first socket has announced the connection, too
        return association


class GuardedServer(ThreadedAssociationServer):
    """Server that lets in known addresses only, a bounded number at a time.

    Args:
        ae: Application entity.
        address: Address and port to listen on.
        ae_title: AE title.
        contexts: Supported presentation contexts.
        ssl_context: Unused; see *tls*.
        evt_handlers: Handlers of events.
        may_connect: Tells whether an address may connect.
        refuse: Notes a refusal.
        object_bytes: Largest number of bytes of an object and its command.
        timeout_s: Seconds for the handshake, each PDU and each send.
        tls: Context of TLS; None listens without encryption.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        ae: ApplicationEntity,
        address: Any,
        ae_title: str,
        contexts: Any,
        ssl_context: None = None,  # noqa: ARG002  (see *tls*)
        *,
        evt_handlers: Any,
        may_connect: Callable[[str], bool],
        refuse: Refuse,
        object_bytes: int,
        timeout_s: float,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.may_connect, self.refuse, self.tls = may_connect, refuse, tls
        self.object_bytes, self.timeout_s = object_bytes, timeout_s
        self._entering = 0
        super().__init__(ae, address, ae_title, contexts, evt_handlers=evt_handlers, request_handler=_Handler)

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        """Accept a connection."""
        assert self.socket is not None  # noqa: S101  (the server listens)
        client, address = self.socket.accept()
        client.settimeout(self.timeout_s)
        return client, address

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002
        """Check whether to serve a connection; one that is not served is closed without an answer."""
        if not self.may_connect(client_address[0]):
            self.refuse("the address is unknown", client_address[0])
            return False
        if len(self.active_associations) + self._entering >= self.ae.maximum_associations + _WAITING:
            self.refuse("there are too many connections", client_address[0])
            return False
        self._entering += 1  # by the thread of the server only
        return True

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection until its association has started."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._entering -= 1

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Note that a connection could not be served, as when its certificate is not accepted."""
        self.refuse("the connection failed before an association", client_address[0])
