"""Messages of the AWS Encryption SDK: their header names the key of each encrypted data key in plain text."""

from __future__ import annotations

from typing import Final

from sealwax._foreign import ForeignFormat, Read, distinct

# Every published algorithm suite, by message version.
SUITES: Final = {
    1: frozenset(
        (0x0014, 0x0046, 0x0078, 0x0114, 0x0146, 0x0178, 0x0214, 0x0346, 0x0378),
    ),
    2: frozenset((0x0478, 0x0578)),
}
MAX_HEADER_BYTES: Final = 1 << 20
# Version 1 has a message type before the suite.
_CUSTOMER_AUTHENTICATED: Final = 0x80
_BEFORE_CONTEXT: Final = {1: 20, 2: 35}
_FIRST_READ: Final = 1 << 14
_ADVICE: Final = "a message is never re-wrapped: to change its KMS key, decrypt it and encrypt it again"
# The key provider information of these providers is a key ARN; other providers of KMS differ.
_NAMING: Final = ("aws-kms", "aws-kms-rsa")
_MOST_NAME_BYTES: Final = 2048


class _CutError(Exception):
    """The header continues beyond what can be read."""


class _DamagedError(Exception):
    """It is not a valid header."""


class _Bytes:
    """The header's bytes, read only as far as needed."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._data = b""
        self._ended = False
        self.at = 0

    def take(self, size: int) -> bytes:
        end = self.at + size
        while len(self._data) < end and not self._ended:
            if end > MAX_HEADER_BYTES:
                raise _CutError
            wanted = min(max(end, 2 * len(self._data), _FIRST_READ), MAX_HEADER_BYTES) - len(self._data)
            more = self._read(len(self._data), wanted)
            self._ended = len(more) < wanted
            self._data += more
        if len(self._data) < end:
            raise _CutError
        self.at = end
        return self._data[end - size : end]

    def number(self) -> int:
        return int.from_bytes(self.take(2), "big")


def version_of(data: bytes) -> int | None:
    """Return the version of the message that begins with these bytes, or None."""
    for version, suites in SUITES.items():
        start = bytes((1, _CUSTOMER_AUTHENTICATED)) if version == 1 else b"\x02"
        if data.startswith(start) and int.from_bytes(data[len(start) : len(start) + 2], "big") in suites:
            return version if len(data) >= len(start) + 2 else None
    return None


def recognize(read: Read, beginning: bytes) -> ForeignFormat | None:
    """Return what the header of a message says, or None for anything else.

    Args:
        beginning: the first bytes, which have been read already.
    """
    version = version_of(beginning)
    if version is None:
        return None
    name = f"esdk-v{version}"
    title = f"an AWS Encryption SDK message, version {version}"
    keys: list[str] = []
    others: list[str] = []
    complete = True
    header = _Bytes(read)
    try:
        header.take(_BEFORE_CONTEXT[version])
        _pass_context(header)
        count = header.number()
        if not count:
            raise _DamagedError
        for _ in range(count):
            provider = _text(header.take(header.number()))
            info = header.take(header.number())
            header.take(header.number())
            if provider in _NAMING and 0 < len(info) <= _MOST_NAME_BYTES:
                keys.append(_text(info))
            else:
                others.append(provider)
                complete = complete and not provider.startswith("aws-kms")
        if header.take(1) not in (b"\x01", b"\x02"):
            raise _DamagedError
    except _CutError:
        complete = False
        title += ", with a header that is cut off or larger than 1 MiB"
    except _DamagedError:
        return ForeignFormat(name, f"{title}, that is damaged", distinct(keys), distinct(others), sure=False)
    return ForeignFormat(name, title, distinct(keys), distinct(others), complete, advice=_ADVICE)


def _pass_context(header: _Bytes) -> None:
    size = header.number()
    if not size:
        return
    end = header.at + size
    for _ in range(header.number()):
        for _ in range(2):
            header.take(header.number())
            if header.at > end:
                raise _DamagedError
    if header.at != end:
        raise _DamagedError


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
