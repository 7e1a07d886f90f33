"""Keeps data keys out of botocore's logs and events, and out of memory after use.

botocore would keep a plaintext data key in many places. It logs the bodies of requests and answers at DEBUG, records
both in ``botocore.history``, and leaves copies in buffers that are never overwritten: the buffered reader around the
socket, OpenSSL's record buffer, the body, the JSON text, the decoded value. Here:

- The answer to one of our calls is read through a buffer that zeroes what it returns, straight into a ``bytearray``.
  ``Plaintext`` is decoded from there and overwritten, and botocore gets the rest. Over TLS, OpenSSL is told to cleanse
  what it decrypted (SSL_OP_CLEANSE_PLAINTEXT).
- If an answer comes without a connection (from a ``before-send`` handler), or botocore has changed so much that its
  connections cannot be reached, ``before-parse`` removes ``Plaintext`` from the body that the parser sees and logs. The
  key is returned by the ``Exchange``, not in the parsed answer, which ``botocore.history`` and ``after-call`` handlers
  see.
- The parameters of kms:Encrypt hold a placeholder. The real body is written when the request is signed, replaces the
  other one in ``before-send``, and is wiped when the call ends. Logs and records in between hold no key.

All of this applies only inside an ``Exchange``, in the thread that opened it. A client that was passed in keeps its
event handlers, and its owner's calls pass through unchanged. (A derived client of our own would lose these handlers, or
need many more of botocore's private attributes.) One case cannot be told apart: a call by the owner's event handler,
with the same client, during one of our calls.
"""

from __future__ import annotations

import contextvars
import functools
import hashlib
import http.client
import io
import logging
import os
import re
import socket
import ssl
from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, cast

from urllib3 import PoolManager
from urllib3.exceptions import ProtocolError, ReadTimeoutError

from sealwax._core.keyring import wipe
from sealwax.errors import RequestRefusedError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from urllib3 import BaseHTTPResponse
    from urllib3.connection import HTTPConnection
    from urllib3.connectionpool import ConnectionPool, HTTPConnectionPool

# A ciphertext blob has at most 6144 bytes and a plaintext 4096; KMS's answers are never longer than this.
_LARGEST_ANSWER_BYTES: Final = 1 << 16
_READER_BYTES: Final = 1 << 13

_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_VALUES: Final = {char: value for value, char in enumerate(_ALPHABET)}
_PLAINTEXT: Final = re.compile(rb'"Plaintext"\s*:\s*"((?:[^"\\]|\\.)*)"')
# Replaces a key; valid base64, so that parsers accept it, and readable in a log.
_REDACTED: Final = b"redacted/by/sealwax/////"

_OP_CLEANSE_PLAINTEXT: Final = 0x2  # OpenSSL's SSL_OP_CLEANSE_PLAINTEXT, missing from the ssl module
_CAN_CLEANSE: Final = ssl.OPENSSL_VERSION.startswith("OpenSSL ") and ssl.OPENSSL_VERSION_INFO >= (3, 0)

_logger: Final = logging.getLogger("sealwax")
_warned: Final[list[str]] = []
_current: contextvars.ContextVar[Exchange | None] = contextvars.ContextVar("sealwax_exchange", default=None)


class _SignedRequest(Protocol):
    """The part of botocore's requests that is used, before and after signing."""

    data: bytes
    body: object
    headers: MutableMapping[str, str]


class Exchange:
    """One call to KMS that carries a plaintext data key. A key that the caller did not take is wiped on exit.

    Args:
        secret: the data key for kms:Encrypt to wrap; borrowed for the call, not wiped.
    """

    __slots__ = ("_body", "_placeholder", "_received", "_secret", "_sent", "_taken_out", "_token", "response")

    def __init__(self, secret: bytearray | None = None) -> None:
        self._secret = secret
        self._placeholder = b""
        self._body = _Body()
        self._sent = False
        self._received: bytearray | None = None
        self._taken_out = False
        self.response: _WipingResponse | None = None

    def __enter__(self) -> Self:
        self._token = _current.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)
        self._secret = None
        self.response = None
        wipe(self._body)
        if self._received is not None:
            wipe(self._received)
            self._received = None

    # --- the request of kms:Encrypt

    def stand_in(self) -> bytes:
        """Return a unique placeholder, as long as the secret, to pass as ``Plaintext``."""
        assert self._secret is not None
        size = len(self._secret)
        text = bytearray((size + 2) // 3 * 4)
        _encode_base64(bytearray(os.urandom(size)), text)
        text[: len(_REDACTED)] = _REDACTED
        self._placeholder = bytes(text)
        return bytes(_decode_base64(text, 0, len(text)))

    def write_body(self, request: _SignedRequest) -> None:
        """Write the real body of a request that is about to be signed; once per attempt."""
        wipe(self._body)
        assert self._secret is not None
        body = _Body(request.data)
        start = body.index(self._placeholder)
        with memoryview(body) as view:
            _encode_base64(self._secret, view[start : start + len(self._placeholder)])
        self._body = body
        # The signature covers this hash. The body that botocore records is deliberately not JSON: if the real body did
        # not replace it, the request would fail instead of wrapping a key that nobody has.
        request.headers["X-Amz-Content-SHA256"] = hashlib.sha256(body).hexdigest()
        request.data = b"*" * len(body)

    def send_body(self, request: _SignedRequest) -> None:
        request.body = self._body
        self._sent = True

    def check_sent(self) -> None:
        """Make sure that KMS wrapped the secret and not the placeholder.

        Raises:
            RequestRefusedError: an event handler of the client answered instead of KMS.
        """
        if not self._sent:
            raise RequestRefusedError(
                "the request to wrap the data key was never sent: an event handler of the KMS client answered it. Pass "
                "a session or a client without such a handler."
            )

    # --- the answer

    def receive(self, response: BaseHTTPResponse, pool: ConnectionPool, url: str) -> BaseHTTPResponse | _PlainAnswer:
        """Read the whole answer and return it for botocore, without the key."""
        raw, self.response = self.response, None
        if raw is None:  # not one of our connections: a test double
            return response
        body = bytearray(_LARGEST_ANSWER_BYTES)
        try:
            size = _read_into(raw, body)
            self._take_out(body, size)
            self._taken_out = True
            return _PlainAnswer(response.status, response.headers, bytes(memoryview(body)[:size]))
        except TimeoutError as error:
            response.close()
            raise ReadTimeoutError(pool, url, "Read timed out.") from error
        except (OSError, http.client.HTTPException) as error:
            response.close()
            raise ProtocolError(f"Connection broken: {error!r}", error) from error
        finally:
            wipe(body)
            if not raw.isclosed():
                response.close()
            response.release_conn()

    def parse(self, response: dict[str, Any]) -> None:
        """Remove the key from an answer that came without one of our connections, before it is logged and parsed."""
        if self._taken_out:
            self._taken_out = False
            return
        # A copy: the original belongs to the handler that returned it, and may be returned again.
        body = bytearray(response["body"])
        self._take_out(body, len(body))
        response["body"] = bytes(body)

    def _take_out(self, body: bytearray, size: int) -> None:
        for match in _PLAINTEXT.finditer(body, 0, size):
            start, end = match.span(1)
            if self._received is not None:
                wipe(self._received)
            try:
                self._received = _decode_base64(body, start, end)
            except (ValueError, LookupError):
                self._received = bytearray()
            finally:
                _redact(body, start, end)

    def plaintext(self, answer: Mapping[str, Any]) -> bytearray:
        """Return the answer's data key, for the caller to wipe; empty if it had none.

        Args:
            answer: what botocore returned; used only if an event handler answered without a request.
        """
        received, self._received = self._received, None
        if received is None:
            return bytearray(answer.get("Plaintext") or b"")
        return received


def _encode_base64(data: bytearray, into: bytearray | memoryview) -> None:
    """Encode in place. All integers are below 256, which Python caches: no new object ever holds a part of ``data``."""
    size = len(data)
    for index in range(0, size, 3):
        first = data[index]
        second = data[index + 1] if index + 1 < size else 0
        third = data[index + 2] if index + 2 < size else 0
        at = index // 3 * 4
        into[at] = _ALPHABET[first >> 2]
        into[at + 1] = _ALPHABET[(first & 3) << 4 | second >> 4]
        into[at + 2] = _ALPHABET[(second & 15) << 2 | third >> 6] if index + 1 < size else 0x3D
        into[at + 3] = _ALPHABET[third & 63] if index + 2 < size else 0x3D


def _decode_base64(text: bytearray, start: int, end: int) -> bytearray:
    """Decode the base64 in a JSON string, also without larger integers, into a buffer that never grows.

    Raises:
        ValueError, LookupError: it is not base64.
    """
    out = bytearray(sum(1 for _ in _digits(text, start, end)) * 6 // 8)
    size = 0
    carry = 0
    for place, digit in enumerate(_digits(text, start, end)):
        phase = place % 4
        if phase == 0:
            carry = digit << 2
            continue
        if phase == 1:
            out[size] = carry | digit >> 4
            carry = (digit & 15) << 4
        elif phase == 2:
            out[size] = carry | digit >> 2
            carry = (digit & 3) << 6
        else:
            out[size] = carry | digit
        size += 1
    return out


def _digits(text: bytearray, start: int, end: int) -> Iterator[int]:
    at = start
    while at < end:
        char = text[at]
        at += 1
        if char == 0x5C:  # a backslash: JSON can write / as \/, and any character as \uXXXX
            char = text[at]
            at += 1
            if char == 0x75:
                char = int(text[at : at + 4], 16)
                at += 4
        if char == 0x3D:
            return
        yield _VALUES[char]


def _redact(body: bytearray, start: int, end: int) -> None:
    for at in range(start, end):
        if body[at] != 0x3D:
            body[at] = _REDACTED[(at - start) % len(_REDACTED)]


class _Body(bytearray):
    """A request's body. Test doubles of KMS may read it as a file; ``_WipingPool`` sends the memory itself."""

    _at = 0

    def read(self, size: int = -1) -> bytes:
        end = len(self) if size < 0 else self._at + size
        self._at, part = end, bytes(self[self._at : end])
        return part


class _PlainAnswer:
    """The part of urllib3's response that botocore needs: status, headers, and a body to read once."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self._body = body

    def stream(self) -> Iterator[bytes]:
        yield self._body


def _read_into(raw: http.client.HTTPResponse, body: bytearray) -> int:
    size = 0
    with memoryview(body) as view:
        while size < len(view):
            count = raw.readinto(view[size:])
            if not count:
                break
            size += count
    if raw.length:
        raise ConnectionError(f"{raw.length} bytes of the answer are missing")
    return size


class _WipingReader(io.RawIOBase):
    """A buffered reader of a socket that zeroes what it has returned."""

    def __init__(self, raw: io.RawIOBase | io.BufferedIOBase) -> None:
        super().__init__()
        self._raw = raw
        self._buffer = bytearray(_READER_BYTES)
        self._start = self._end = 0
        self.chunked = False

    def readable(self) -> bool:
        return True

    def _fill(self) -> bool:
        self._start, self._end = 0, self._raw.readinto(self._buffer) or 0
        return self._end > 0

    def _hand_out(self, target: bytearray | memoryview, at: int, size: int) -> None:
        stop = self._start + size
        with memoryview(self._buffer) as view:
            target[at : at + size] = view[self._start : stop]
            view[self._start : stop] = bytes(size)
        self._start = stop

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill ``buffer``, or less at the end of the connection; inside a chunk, that is an error."""
        with memoryview(buffer).cast("B") as view:
            at = 0
            while at < len(view) and (self._start < self._end or self._fill()):
                size = min(len(view) - at, self._end - self._start)
                self._hand_out(view, at, size)
                at += size
            if self.chunked and at < len(view):
                # http.client would raise an error that holds a copy of the data.
                view[:at] = bytes(at)
                raise ConnectionError("the answer is cut off")
        return at

    def readline(self, size: int | None = -1, /) -> bytes:
        """Return one line of the head or of a chunk's frame; these hold no key."""
        line = bytearray()
        while not line.endswith(b"\n") and len(line) != size and (self._start < self._end or self._fill()):
            stop = self._buffer.find(b"\n", self._start, self._end) + 1 or self._end
            count = stop - self._start
            if size is not None and size >= 0:
                count = min(count, size - len(line))
            line.extend(bytes(count))
            self._hand_out(line, len(line) - count, count)
        return bytes(line)

    def close(self) -> None:
        if not self.closed:
            wipe(self._buffer)
            self._raw.close()
            super().close()


class _WipingResponse(http.client.HTTPResponse):
    """http.client's response; our own calls read through a ``_WipingReader``."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        exchange = _current.get()
        if exchange is not None:
            self.fp.close()
            self.fp = _WipingReader(sock.makefile("rb", buffering=0))  # type: ignore[assignment]  # the part that is used
            exchange.response = self

    def begin(self) -> None:
        super().begin()
        if isinstance(self.fp, _WipingReader):
            self.fp.chunked = bool(self.chunked)


class _WipingConnection:
    """Mixed into a client's connection classes."""

    response_class = _WipingResponse
    ssl_context: ssl.SSLContext | None = None

    def connect(self) -> None:
        if self.ssl_context is not None and _CAN_CLEANSE:
            self.ssl_context.options |= _OP_CLEANSE_PLAINTEXT
        super().connect()  # type: ignore[misc]  # of the class it is mixed into


class _WipingPool:
    """Mixed into a client's connection pool classes."""

    @property
    def ConnectionCls(self) -> type[HTTPConnection]:  # noqa: N802  urllib3's name
        # Looked up each time: tools that record and replay connections (vcrpy) replace the class for a while.
        return _wiping_connection(super().ConnectionCls)  # type: ignore[misc]  # of the class it is mixed into

    def urlopen(
        self, method: str, url: str, body: object = None, *args: object, **kwargs: object
    ) -> BaseHTTPResponse | _PlainAnswer:
        if isinstance(body, _Body) and issubclass(self.ConnectionCls, _WipingConnection):
            body = memoryview(body)  # urllib3 would read it as a file
        response: BaseHTTPResponse = super().urlopen(method, url, body, *args, **kwargs)  # type: ignore[misc]
        exchange = _current.get()
        return response if exchange is None else exchange.receive(response, cast("ConnectionPool", self), url)


# These two caches hold classes only, nothing secret.
@functools.lru_cache(maxsize=16)
def _wiping_connection(connection_class: type[HTTPConnection]) -> type[HTTPConnection]:
    """Return ``connection_class`` with wiping mixed in, or unchanged if it reads answers in its own way."""
    reads_as_usual = connection_class.getresponse.__module__.startswith("urllib3.")
    if not reads_as_usual or connection_class.response_class is not http.client.HTTPResponse:
        return connection_class
    return type(connection_class.__name__, (_WipingConnection, connection_class), {})


@functools.cache
def _wiping(pool_class: type[HTTPConnectionPool]) -> type[HTTPConnectionPool]:
    """Return a connection pool class, of whatever library, with wiping mixed in."""
    return type(pool_class.__name__, (_WipingPool, pool_class), {})


def attach(client: Any) -> None:
    """Prepare a botocore KMS client for ``Exchange``. Repeating this changes nothing.

    If the client's connections cannot be reached, keys are only kept out of logs; the logger ``sealwax`` warns once per
    process.
    """
    events = client.meta.events
    for operation in ("GenerateDataKey", "Decrypt"):
        events.register_first(f"before-parse.kms.{operation}", _before_parse, unique_id=f"sealwax-{operation}")
    events.register_first("request-created.kms.Encrypt", _request_created, unique_id="sealwax-Encrypt-created")
    events.register_first("before-send.kms.Encrypt", _before_send, unique_id="sealwax-Encrypt-send")
    try:
        _attach_to_connections(client)
    except (AttributeError, KeyError, TypeError) as error:
        _warn_once(f"botocore's connections cannot be reached ({error})")
    if not _CAN_CLEANSE:
        _warn_once(f"{ssl.OPENSSL_VERSION} does not cleanse what it decrypts")


def _attach_to_connections(client: Any) -> None:
    session = client._endpoint.http_session
    manager, classes = session._manager, session._pool_classes_by_scheme
    if manager.pool_classes_by_scheme is not classes or not isinstance(session._proxy_managers, dict):
        raise TypeError("the pool classes are not where they used to be")
    if issubclass(classes["https"], _WipingPool):
        return
    for pool_class in classes.values():
        if _wiping_connection(pool_class.ConnectionCls) is pool_class.ConnectionCls:
            _warn_once(f"{pool_class.ConnectionCls.__name__} reads answers in its own way")
    wiping = {scheme: _wiping(classes[scheme]) for scheme in ("http", "https")}
    new_manager = PoolManager(**manager.connection_pool_kw)
    # New proxy managers take their classes from here too.
    classes.update(wiping)
    new_manager.pool_classes_by_scheme = classes
    # Requests in progress, of the client's owner, finish on their old connections.
    session._proxy_managers = {}
    session._manager = new_manager


def _warn_once(reason: str) -> None:
    if _warned:
        return
    _warned.append(reason)
    _logger.warning(
        "Data keys are kept out of logs, but copies may remain in this process's memory, and in botocore.history if it "
        "is enabled: %s. sealwax was not tested with the installed versions.",
        reason,
    )


def _before_parse(response_dict: dict[str, Any], customized_response_dict: dict[str, None], **_: object) -> None:
    exchange = _current.get()
    if exchange is None:
        return
    exchange.parse(response_dict)
    # The text that replaced the key is public: it must never be used as a key.
    customized_response_dict["Plaintext"] = None


def _request_created(request: _SignedRequest, **_: object) -> None:
    exchange = _current.get()
    if exchange is not None:
        exchange.write_body(request)


def _before_send(request: _SignedRequest, **_: object) -> None:
    exchange = _current.get()
    if exchange is not None:
        exchange.send_body(request)
