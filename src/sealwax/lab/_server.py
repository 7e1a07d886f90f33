"""A small threaded HTTP/1.1 server on the loopback interface.

The standard library's server parses headers with the email package and writes a response in pieces; both cost more than
the cryptography. This one reads only what AWS clients send: POST with a Content-Length.
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

from sealwax._core import trusted
from sealwax.errors import LabError, SealwaxError
from sealwax.lab import _browsers
from sealwax.lab._apierror import ApiError
from sealwax.lab._cloudtrail import CloudTrail
from sealwax.lab._faults import Dropped
from sealwax.lab._gateway import Gateway
from sealwax.lab._lab import Lab
from sealwax.lab._secretbytes import wipe
from sealwax.lab._wire import HttpRequest, HttpResponse, failure, new_request_id

_MAX_HEADERS = 64 << 10
_MAX_LINES = 100
_MAX_BODY = 1 << 20
# As many as four of sealwax's own clients open at most.
_MAX_CONNECTIONS = 1024
_IDLE_SECONDS = 300.0
_REQUEST_SECONDS = 30.0
# How often an idle connection checks whether others wait for its place.
_POLL_SECONDS = 1.0
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
# Errors that pass: too few descriptors, no memory, or a client that left before it was accepted.
_TEMPORARY = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED, errno.EPROTO})
_PAUSE_SECONDS = 0.05
_TLS = trusted.Kind("the TLS file", LabError)

_logger = logging.getLogger(__name__)


class _BadRequestError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Server:
    """Serves a lab over HTTP, for the AWS CLI and other SDKs.

    It listens as soon as it is constructed. Requests for a host that is not the lab's are refused, and so are those
    that a browser sends for a page of another site.

    Args:
        lab: the lab to serve.
        host: the address to listen on; ``::`` is every address of this machine, including IPv4.
        port: 0 lets the kernel choose one, see ``port``.
        tls: the files of a certificate chain and its private key, to serve HTTPS.
        names: other host names and addresses that clients may use.
        upstream: the URL of an endpoint for CloudTrail calls that the lab does not offer, also those of its sessions.
        max_connections: more have to wait until others end; idle ones are closed to make room.
        timeout: the seconds that a request, a response and a TLS handshake may take each.

    Attributes:
        host: the address that it listens on.
        port: the port that it listens on.

    Raises:
        LabError: the address, the certificate, a name or the upstream cannot be used.

    Example:
        ::

            server = Server(lab)
            threading.Thread(target=server.serve, daemon=True).start()
            kms = boto3.client("kms", endpoint_url=server.url)
            ...
            server.close()
    """

    def __init__(
        self,
        lab: Lab,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: tuple[Path, Path] | None = None,
        names: Sequence[str] = (),
        upstream: str | None = None,
        max_connections: int = _MAX_CONNECTIONS,
        timeout: float = _REQUEST_SECONDS,
    ) -> None:
        self._timeout = timeout
        self._gateway = lab._gateway
        if upstream is not None:
            self._gateway.cloudtrail = CloudTrail(lab.trail, upstream)
        self._names = frozenset(map(_browsers.checked_name, (*names, *([host] if host else []))))
        self._places = threading.Semaphore(max_connections)
        self._waiting = False
        self._tls = _tls(tls) if tls is not None else None
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            # :: is every address, as 0.0.0.0 is every address of IPv4.
            both = family == socket.AF_INET6 and _browsers.checked_name(host) == "::" and socket.has_dualstack_ipv6()
            self._socket = socket.create_server((host, port), family=family, backlog=128, dualstack_ipv6=both)
        except OSError as error:
            raise LabError(f"the lab cannot listen on {host} port {port}: {error.strerror or error}") from error
        self.host = host
        self.port: int = self._socket.getsockname()[1]
        self._over = threading.Event()

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        return is_loopback(self.host)

    @property
    def url(self) -> str:
        """The endpoint URL for clients."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self._tls is not None else 'http'}://{host}:{self.port}"

    def serve(self) -> None:
        """Accept connections, each in its own thread, until ``close`` is called."""
        while True:
            # New clients wait in the backlog.
            self._waiting = not self._places.acquire(blocking=False)
            while self._waiting and not self._over.is_set():
                self._waiting = not self._places.acquire(timeout=_PAUSE_SECONDS)
            try:
                connection, address = self._socket.accept()
            except OSError as error:
                if self._over.is_set():
                    return
                if error.errno not in _TEMPORARY:
                    raise
                self._over.wait(_PAUSE_SECONDS)
                self._places.release()
                continue
            try:
                threading.Thread(target=self._talk, args=(connection, _peer(address)), daemon=True).start()
            except RuntimeError:  # too many threads
                connection.close()
                self._places.release()

    def close(self) -> None:
        """Stop accepting connections. Requests in progress are still answered."""
        self._over.set()
        # close() alone does not wake a thread that waits in accept().
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _talk(self, connection: socket.socket, peer: str) -> None:
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(self._timeout)
            # The address that the client connected to is the lab's own.
            own = self._names | {_browsers.checked_name(str(connection.getsockname()[0]))}
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            conversation = _Conversation(
                connection, peer, own, lambda: self._waiting, self._timeout, secure=self._tls is not None
            )
            while conversation.turn(self._gateway):
                pass
        except (OSError, EOFError):
            pass  # the client is gone
        except Dropped:
            # Closed at once with unread bytes, so the client sees a reset connection.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        finally:
            connection.close()
            self._places.release()


def _peer(address: tuple[object, ...]) -> str:
    return str(address[0]).removeprefix("::ffff:")  # IPv4 on a dual-stack socket


class _Conversation:
    """One connection, which carries one request after another.

    Args:
        own: the names and addresses of the lab.
        must_yield: whether other clients wait for this connection's place.
    """

    def __init__(
        self,
        connection: socket.socket,
        peer: str,
        own: frozenset[str],
        must_yield: Callable[[], bool],
        timeout: float,
        *,
        secure: bool,
    ) -> None:
        self._connection = connection
        self._peer = peer
        self._own = own
        self._must_yield = must_yield
        self._timeout = timeout
        self._secure = secure
        self._buffer = bytearray()
        self._deadline = 0.0

    def turn(self, gateway: Gateway) -> bool:
        """Answer one request; return False if the connection has ended."""
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
        # One piece: one packet, and one buffer to wipe.
        message = bytearray(len(head) + len(response.body))
        message[: len(head)] = head
        message[len(head) :] = response.body
        wipe(response.body)
        self._connection.settimeout(self._timeout)
        self._connection.sendall(message)
        wipe(message)
        return keep

    def _refuse(self, status: int) -> None:
        lines = (f"HTTP/1.1 {status} {_REASONS[status]}", "Content-Length: 0", "Connection: close", "", "")
        self._connection.settimeout(self._timeout)
        self._connection.sendall("\r\n".join(lines).encode())

    def _read_request(self) -> HttpRequest | None:
        if not self._buffer and not self._await():
            return None
        self._deadline = time.monotonic() + self._timeout
        searched = 0
        while (end := self._buffer.find(b"\r\n\r\n", max(0, searched - 3))) < 0:
            searched = len(self._buffer)
            if searched > _MAX_HEADERS:
                raise _BadRequestError(431)
            if not self._receive(_MAX_HEADERS):
                return None
        lines = self._buffer[:end].decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        if len(lines) > _MAX_LINES:
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
        # int() raises an error of its own for thousands of digits.
        if len(length) > 20 or (size := int(length)) > _MAX_BODY:
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
        """Wait for the first bytes of a request; return False if none come."""
        until = time.monotonic() + _IDLE_SECONDS
        while (left := until - time.monotonic()) > 0:
            self._connection.settimeout(min(left, _POLL_SECONDS))
            try:
                self._buffer += (received := self._connection.recv(1 << 16))
            except TimeoutError:
                if self._must_yield():
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
    """The gateway's answer. If the lab fails, KMS's internal error, and the cause is logged."""
    try:
        return gateway.handle(request)
    except Dropped:
        raise
    except Exception as error:
        request_id = new_request_id()
        # Only an unexpected error needs its traceback.
        _logger.error(
            "request %s failed: %s", request_id, error, exc_info=None if isinstance(error, SealwaxError) else error
        )
        return failure(ApiError("KMSInternalException", "The lab failed; see its server's output."), request_id)


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
    """Whether only this machine can reach a server that listens on this host."""
    try:
        addresses = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return all(str(entry[4][0]).startswith("127.") or entry[4][0] == "::1" for entry in addresses)
