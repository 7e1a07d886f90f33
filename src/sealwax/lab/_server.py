"""The HTTP front door: a small threaded HTTP/1.1 server on the loopback interface.

The standard library's server parses headers with the email package and writes a response in pieces; both cost more than
the cryptography. This one reads what AWS clients send, and nothing more: POST with a Content-Length.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sealwax._core import trusted
from sealwax.errors import LabError, SealwaxError
from sealwax.lab import _browsers
from sealwax.lab._apierror import ApiError
from sealwax.lab._faults import Dropped
from sealwax.lab._gateway import Gateway
from sealwax.lab._secretbytes import wipe
from sealwax.lab._wire import HttpRequest, HttpResponse, failure, new_request_id

_MOST_HEADERS = 64 << 10
_MOST_LINES = 100
_MOST_BODY = 1 << 20
# As many as four clients of sealwax's own open at most.
_MOST_CONNECTIONS = 1024
_IDLE_SECONDS = 300.0
_REQUEST_SECONDS = 30.0
# How often an idle connection looks whether others wait for its place.
_LOOK_SECONDS = 1.0
_REASONS = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    408: "Request Timeout",
    411: "Length Required",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
}
# What ends with the load, not with the server: descriptors, memory, or a client that left before it was accepted.
_PASSING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED, errno.EPROTO})
_PAUSE_SECONDS = 0.05
_TLS = trusted.Kind("the file for TLS", LabError)

_logger = logging.getLogger(__name__)


class _BadRequestError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Server:
    """Serves a lab until it is closed.

    Args:
        host: the address to listen on; ``::`` is every one of this machine, of IPv4 too.
        port: 0 lets the kernel choose; :attr:`port` tells.
        tls: the files of a certificate chain and its private key, to speak HTTPS.
        names: other names and addresses that clients may call it by. Requests for any other host are refused, and
            so is what a browser sends for a page of another site.
        most_connections: those beyond wait until others end; idle ones make room.
        patience: the seconds from a request's first byte to its last; an answer may take as long to be received, and
            so may a TLS handshake.

    Raises:
        LabError: the address, the certificate or a name cannot be used.
    """

    def __init__(
        self,
        gateway: Gateway,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: tuple[Path, Path] | None = None,
        names: Sequence[str] = (),
        most_connections: int = _MOST_CONNECTIONS,
        patience: float = _REQUEST_SECONDS,
    ) -> None:
        self._patience = patience
        self._gateway = gateway
        self._names = frozenset(map(_browsers.checked_name, (*names, *([host] if host else []))))
        self._places = threading.Semaphore(most_connections)
        self._waiting = False
        self._tls = _tls(tls) if tls is not None else None
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            # All addresses of this machine, as 0.0.0.0 is all of one kind.
            both = family == socket.AF_INET6 and _browsers.checked_name(host) == "::" and socket.has_dualstack_ipv6()
            self._socket = socket.create_server((host, port), family=family, backlog=128, dualstack_ipv6=both)
        except OSError as error:
            raise LabError(f"the lab cannot listen on {host} port {port}: {error.strerror or error}") from error
        self.host = host
        self.port: int = self._socket.getsockname()[1]
        self._over = threading.Event()

    @property
    def url(self) -> str:
        """What clients take as their endpoint URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self._tls is not None else 'http'}://{host}:{self.port}"

    def serve(self) -> None:
        """Accept connections, each with a thread of its own, until :meth:`close` is called."""
        while True:
            # Those who connect meanwhile wait in the backlog.
            self._waiting = not self._places.acquire(blocking=False)
            while self._waiting and not self._over.is_set():
                self._waiting = not self._places.acquire(timeout=_PAUSE_SECONDS)
            try:
                connection, address = self._socket.accept()
            except OSError as error:
                if self._over.is_set():
                    return
                if error.errno not in _PASSING:
                    raise
                # The clients wait in the backlog meanwhile.
                self._over.wait(_PAUSE_SECONDS)
                self._places.release()
                continue
            try:
                threading.Thread(target=self._talk, args=(connection, _peer(address)), daemon=True).start()
            except RuntimeError:  # no thread can be started now
                connection.close()
                self._places.release()

    def close(self) -> None:
        """Stop accepting. A request under way is still answered."""
        self._over.set()
        # Closing alone does not wake a thread that waits in accept().
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _talk(self, connection: socket.socket, peer: str) -> None:
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(self._patience)
            # What was connected to is the lab's, whatever addresses this machine has.
            own = self._names | {_browsers.checked_name(str(connection.getsockname()[0]))}
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            conversation = _Conversation(
                connection, peer, own, lambda: self._waiting, self._patience, secure=self._tls is not None
            )
            while conversation.turn(self._gateway):
                pass
        except (OSError, EOFError):
            pass  # the client has gone; there is nobody left to tell
        except Dropped:
            # Closed at once, without the bytes that were not read: the client sees a reset connection.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        finally:
            connection.close()
            self._places.release()


def _peer(address: tuple[Any, ...]) -> str:
    return str(address[0]).removeprefix("::ffff:")  # of IPv4, where both kinds are listened to


class _Conversation:
    """One connection: requests one after another.

    Args:
        own: what the lab may be called.
        in_the_way: whether others wait for this one's place.
    """

    def __init__(
        self,
        connection: socket.socket,
        peer: str,
        own: frozenset[str],
        in_the_way: Callable[[], bool],
        patience: float,
        *,
        secure: bool,
    ) -> None:
        self._connection = connection
        self._peer = peer
        self._own = own
        self._in_the_way = in_the_way
        self._patience = patience
        self._secure = secure
        self._buffer = bytearray()
        self._deadline = 0.0

    def turn(self, gateway: Gateway) -> bool:
        """Answer one request; False when the connection is over."""
        try:
            request = self._read_request()
        except _BadRequestError as error:
            self._refuse(error.status)
            return False
        if request is None:
            return False
        refusal = _browsers.why_refused(request.headers, self._own)
        keep = request.headers.get("connection", "").lower() != "close" and refusal is None
        if refusal is None:
            response = _answer(gateway, request)
        else:
            response = failure(ApiError("ForeignRequestException", refusal, status=403), new_request_id())
        assert isinstance(request.body, bytearray)
        wipe(request.body)
        lines = [f"HTTP/1.1 {response.status} {_REASONS.get(response.status, 'Error')}"]
        lines += [f"{name}: {value}" for name, value in response.headers.items()]
        lines += [f"Connection: {'keep-alive' if keep else 'close'}", "", ""]
        head = "\r\n".join(lines).encode("latin-1")
        # Head and body in one piece: one packet, and one buffer to wipe.
        message = bytearray(len(head) + len(response.body))
        message[: len(head)] = head
        message[len(head) :] = response.body
        wipe(response.body)
        self._connection.settimeout(self._patience)
        self._connection.sendall(message)
        wipe(message)
        return keep

    def _refuse(self, status: int) -> None:
        lines = (f"HTTP/1.1 {status} {_REASONS[status]}", "Content-Length: 0", "Connection: close", "", "")
        self._connection.settimeout(self._patience)
        self._connection.sendall("\r\n".join(lines).encode())

    def _read_request(self) -> HttpRequest | None:
        if not self._buffer and not self._await():
            return None
        self._deadline = time.monotonic() + self._patience
        looked_at = 0
        while (end := self._buffer.find(b"\r\n\r\n", max(0, looked_at - 3))) < 0:
            looked_at = len(self._buffer)
            if looked_at > _MOST_HEADERS:
                raise _BadRequestError(431)
            if not self._receive(_MOST_HEADERS):
                return None
        lines = self._buffer[:end].decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        if len(lines) > _MOST_LINES:
            raise _BadRequestError(431)
        start = lines[0].split(" ")
        if len(start) != 3 or not start[2].startswith("HTTP/1."):
            raise _BadRequestError(400)
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            name = name.lower()
            if not colon or (name == "content-length" and name in headers):
                raise _BadRequestError(400)
            value = value.strip()
            headers[name] = f"{headers[name]},{value}" if name in headers else value
        return HttpRequest(start[0], start[1], headers, self._read_body(headers), self._peer, self._secure)

    def _read_body(self, headers: dict[str, str]) -> bytearray:
        length = headers.get("content-length", "")
        if "transfer-encoding" in headers or not (length.isascii() and length.isdigit()):
            raise _BadRequestError(411)
        # The count of digits first: int() refuses thousands of them with an error of its own.
        if len(length) > 20 or (size := int(length)) > _MOST_BODY:
            raise _BadRequestError(413)
        if headers.get("expect", "").lower() == "100-continue":
            self._connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        while len(self._buffer) < size:
            if not self._receive(size - len(self._buffer)):
                raise EOFError
        body = self._buffer[:size]
        self._buffer[:size] = bytes(size)
        del self._buffer[:size]
        return body

    def _await(self) -> bool:
        """Wait for the first bytes of a request; False when there are to be none."""
        until = time.monotonic() + _IDLE_SECONDS
        while (left := until - time.monotonic()) > 0:
            self._connection.settimeout(min(left, _LOOK_SECONDS))
            try:
                self._buffer += (received := self._connection.recv(1 << 16))
            except TimeoutError:
                if self._in_the_way():
                    return False
            else:
                return bool(received)
        return False

    def _receive(self, most: int) -> bool:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise _BadRequestError(408)
        self._connection.settimeout(left)
        try:
            received = self._connection.recv(min(most, 1 << 16))
        except TimeoutError:
            raise _BadRequestError(408) from None
        self._buffer += received
        return bool(received)


def _answer(gateway: Gateway, request: HttpRequest) -> HttpResponse:
    """What the gateway answers; where the lab itself fails, what KMS answers then, and the cause goes to the log."""
    try:
        return gateway.handle(request)
    except Dropped:
        raise
    except Exception as error:
        request_id = new_request_id()
        # A sentence of the lab's own says enough; what nobody has foreseen needs its traceback.
        _logger.error(
            "request %s failed: %s", request_id, error, exc_info=None if isinstance(error, SealwaxError) else error
        )
        return failure(ApiError("KMSInternalException", "The lab failed inside; its server says why."), request_id)


def _tls(files: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        for file in files:
            trusted.check(file, _TLS)  # OpenSSL opens it by its name
        context.load_cert_chain(*files)
    except (OSError, ssl.SSLError) as error:
        raise LabError(f"the certificate {files[0]} with the key {files[1]} cannot be used: {error}") from error
    return context


def is_loopback(host: str) -> bool:
    """Whether an address that was given for listening is reached from this machine alone."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return all(str(entry[4][0]).startswith("127.") or entry[4][0] == "::1" for entry in found)
