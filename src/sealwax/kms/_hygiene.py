"""No trace of the data key: neither in botocore's logs and events, nor in memory after use.

botocore keeps a plaintext data key in many places. It logs the answer's body and the request's at DEBUG, records both
in ``botocore.history``, and leaves copies behind in buffers that nobody overwrites: the buffered reader around the
socket, OpenSSL's record buffer, the body, the JSON text, the decoded value. Each is closed here:

- On a connection, the answer to a call of ours is read through a buffer that zeroes what it hands out, straight into
  a ``bytearray``; ``Plaintext`` is decoded out of that and overwritten there. botocore is given the rest. Over TLS,
  OpenSSL is told to cleanse what it decrypted (SSL_OP_CLEANSE_PLAINTEXT).
- Where an answer comes without a connection (a ``before-send`` handler gave it), or where botocore's inside has moved
  so far that the connections cannot be reached, ``before-parse`` takes ``Plaintext`` out of the body that the parser
  sees and logs. The key does not come back in the parsed answer, which ``botocore.history`` and everybody's
  ``after-call`` handlers see, but in the :class:`Exchange`.
- In kms:Encrypt the parameters hold a placeholder. The true body is written when the request is signed, sent in its
  place in ``before-send``, and wiped when the call ends; what is logged and recorded in between holds no key.

All of it acts on calls inside an :class:`Exchange` only, in the thread that opened it. A client that was passed in
keeps its event handlers and behaves as ever for its owner's own calls: they pass through here untouched. (A client of
our own, derived from the owner's, would lose its handlers or need far more of botocore's private attributes.) The one
thing not told apart is a call that the owner's own event handler makes with the same client from inside ours.
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
import ssl
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Self

from urllib3 import PoolManager
from urllib3.exceptions import ProtocolError, ReadTimeoutError

from sealwax._core.keyring import wipe
from sealwax.errors import RequestRefusedError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# A ciphertext blob has at most 6144 bytes and a plaintext 4096; what is longer is no answer of KMS's.
_LARGEST_ANSWER_BYTES: Final = 1 << 16
_READER_BYTES: Final = 1 << 13

_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_VALUES: Final = {char: value for value, char in enumerate(_ALPHABET)}
_PLAINTEXT: Final = re.compile(rb'"Plaintext"\s*:\s*"((?:[^"\\]|\\.)*)"')
# It stands where a key was, and is base64 as well, so that parsers take it and readers of a log understand it.
_REDACTED: Final = b"redacted/by/sealwax/////"

_OP_CLEANSE_PLAINTEXT: Final = 0x2  # OpenSSL's SSL_OP_CLEANSE_PLAINTEXT, which the ssl module has no name for
_CAN_CLEANSE: Final = ssl.OPENSSL_VERSION.startswith("OpenSSL ") and ssl.OPENSSL_VERSION_INFO >= (3, 0)

_logger: Final = logging.getLogger("sealwax")
_warned: Final[list[str]] = []
_current: contextvars.ContextVar[Exchange | None] = contextvars.ContextVar("sealwax_exchange", default=None)


class Exchange:
    """One call to KMS that carries a plaintext data key, from the request to the answer.

    What was not taken out of it by the end of ``with`` is wiped.

    Args:
        secret: what kms:Encrypt is to wrap; borrowed for the length of the call, not wiped.
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
        """Return what is passed as ``Plaintext`` instead of the secret: as long, like nothing else in a request."""
        assert self._secret is not None
        size = len(self._secret)
        text = bytearray((size + 2) // 3 * 4)
        _encode_base64(bytearray(os.urandom(size)), text)
        text[: len(_REDACTED)] = _REDACTED
        self._placeholder = bytes(text)
        return bytes(_decode_base64(text, 0, len(text)))

    def write_body(self, request: Any) -> None:
        """Write the true body of a request that is about to be signed; once for each attempt."""
        wipe(self._body)
        assert self._secret is not None
        body = _Body(request.data)
        start = body.index(self._placeholder)
        with memoryview(body) as view:
            _encode_base64(self._secret, view[start : start + len(self._placeholder)])
        self._body = body
        # The signature is over this hash. What botocore records before it sends is no JSON on purpose: should the
        # true body not take its place, the request fails, and never wraps a key that nobody has.
        request.headers["X-Amz-Content-SHA256"] = hashlib.sha256(body).hexdigest()
        request.data = b"*" * len(body)

    def send_body(self, request: Any) -> None:
        request.body = self._body
        self._sent = True

    def check_sent(self) -> None:
        """Make sure that it was the secret which KMS wrapped.

        Raises:
            RequestRefusedError: an event handler of the client answered in KMS's place.
        """
        if not self._sent:
            raise RequestRefusedError(
                "the request to wrap the data key was never sent: an event handler of the client answered it"
            )

    # --- the answer

    def receive(self, response: Any, pool: Any, url: str) -> Any:
        """Read the answer to the end; return it to botocore without the key in it."""
        raw, self.response = self.response, None
        if raw is None:  # not one of our connections: a test double in its place
            return response
        body = bytearray(_LARGEST_ANSWER_BYTES)
        try:
            size = _read_into(raw, body)
            self._take_out(body, size)
            self._taken_out = True
            return _Answer(response.status, response.headers, bytes(memoryview(body)[:size]))
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
        """Take the key out of an answer that came without a connection of ours, before it is logged and parsed."""
        if self._taken_out:
            self._taken_out = False
            return
        # A copy, since the original is somebody else's, who may hand it out again.
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
        """Return the data key that the answer held, for the caller to wipe; empty where there was none.

        Args:
            answer: what botocore returned; looked at only where an event handler answered without a request.
        """
        received, self._received = self._received, None
        if received is None:
            return bytearray(answer.get("Plaintext") or b"")
        return received


def _encode_base64(data: bytearray, into: bytearray | memoryview) -> None:
    """Encode in place; no integer here is beyond 255, so nothing of ``data`` is ever in a new object."""
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
    """Decode what a JSON string holds; again without an integer beyond 255, and into a buffer that never grows.

    Raises:
        ValueError, LookupError: it is no base64.
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
        if char == 0x5C:  # a backslash: JSON may write / as \/, and any character as \uXXXX
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
    """A request's body in the caller's memory, which test doubles that answer in the place of KMS may read as a file.

    They take bytes, text or a file. The wire takes the memory itself, see :class:`_WipingPool`.
    """

    _at = 0

    def read(self, size: int = -1) -> bytes:
        end = len(self) if size < 0 else self._at + size
        self._at, part = end, bytes(self[self._at : end])
        return part


class _Answer:
    """What botocore needs of urllib3's response: a status, headers, and a body to read once."""

    def __init__(self, status: int, headers: Any, body: bytes) -> None:
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
    """A buffered reader of a socket that keeps nothing of what it has handed out."""

    def __init__(self, raw: Any) -> None:
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
        """Fill ``buffer``; less only at the end of the connection, which inside of a chunk is an error."""
        with memoryview(buffer).cast("B") as view:
            at = 0
            while at < len(view) and (self._start < self._end or self._fill()):
                size = min(len(view) - at, self._end - self._start)
                self._hand_out(view, at, size)
                at += size
            if self.chunked and at < len(view):
                # http.client would raise an error that holds a copy of what came.
                view[:at] = bytes(at)
                raise ConnectionError("the answer is cut off")
        return at

    def readline(self, size: int | None = -1, /) -> bytes:
        """Return one line, of the head or of a chunk's frame; they hold no key."""
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
    """http.client's response; for calls of ours it reads through a :class:`_WipingReader`."""

    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        exchange = _current.get()
        if exchange is not None:
            self.fp.close()
            self.fp = _WipingReader(sock.makefile("rb", buffering=0))  # type: ignore[assignment]  # as far as it is used
            exchange.response = self

    def begin(self) -> None:
        super().begin()
        if isinstance(self.fp, _WipingReader):
            self.fp.chunked = bool(self.chunked)


class _WipingConnection:
    """Mixed into the connection classes that a client has."""

    response_class = _WipingResponse
    ssl_context: ssl.SSLContext | None = None

    def connect(self) -> None:
        if self.ssl_context is not None and _CAN_CLEANSE:
            self.ssl_context.options |= _OP_CLEANSE_PLAINTEXT
        super().connect()  # type: ignore[misc]  # of the class it is mixed into


class _WipingPool:
    """Mixed into the connection pool classes that a client has."""

    @property
    def ConnectionCls(self) -> Any:  # noqa: N802  urllib3's name
        # Looked up each time: what records and replays connections for tests (vcrpy) puts its class there for a while.
        return _wiping_connection(super().ConnectionCls)  # type: ignore[misc]  # of the class it is mixed into

    def urlopen(self, method: str, url: str, body: Any = None, *args: Any, **kwargs: Any) -> Any:
        if isinstance(body, _Body) and issubclass(self.ConnectionCls, _WipingConnection):
            body = memoryview(body)  # urllib3 would read it as a file
        response = super().urlopen(method, url, body, *args, **kwargs)  # type: ignore[misc]
        exchange = _current.get()
        return response if exchange is None else exchange.receive(response, self, url)


@functools.lru_cache(maxsize=16)
def _wiping_connection(connection_class: Any) -> Any:
    """Return a connection class like ``connection_class`` that wipes; itself, where it reads answers in its own way."""
    reads_as_usual = connection_class.getresponse.__module__.startswith("urllib3.")
    if not reads_as_usual or connection_class.response_class is not http.client.HTTPResponse:
        return connection_class
    return type(connection_class.__name__, (_WipingConnection, connection_class), {})


@functools.cache
def _wiping(pool_class: Any) -> Any:
    """Return a pool class like ``pool_class``, whatever library has made that, with wiping connections."""
    return type(pool_class.__name__, (_WipingPool, pool_class), {})


def attach(client: Any) -> None:
    """Make ``client``, a botocore KMS client, ready for :class:`Exchange`. Doing it again changes nothing.

    Where the connections of the client cannot be reached, keys are kept out of logs alone, and one warning a process on
    the logger ``sealwax`` says so.
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
        raise TypeError("the pool classes are not where they were")
    if issubclass(classes["https"], _WipingPool):
        return
    for each in classes.values():
        if _wiping_connection(each.ConnectionCls) is each.ConnectionCls:
            _warn_once(f"{each.ConnectionCls.__name__} reads answers in its own way")
    wiping = {scheme: _wiping(classes[scheme]) for scheme in ("http", "https")}
    anew = PoolManager(**manager.connection_pool_kw)
    # The new managers of proxies take their classes from here too.
    classes.update(wiping)
    anew.pool_classes_by_scheme = classes
    # Requests of the client's owner that are under way end on the connections they began on.
    session._proxy_managers = {}
    session._manager = anew


def _warn_once(reason: str) -> None:
    if _warned:
        return
    _warned.append(reason)
    _logger.warning(
        "Data keys are kept out of logs, but copies of them may stay in this process's memory, and in botocore.history "
        "where that is on: %s. sealwax was tested with other versions.",
        reason,
    )


def _before_parse(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object) -> None:
    exchange = _current.get()
    if exchange is None:
        return
    exchange.parse(response_dict)
    # What stands in the key's place is known to everyone: it must never be taken for a key.
    customized_response_dict["Plaintext"] = None


def _request_created(request: Any, **_: object) -> None:
    exchange = _current.get()
    if exchange is not None:
        exchange.write_body(request)


def _before_send(request: Any, **_: object) -> None:
    exchange = _current.get()
    if exchange is not None:
        exchange.send_body(request)
