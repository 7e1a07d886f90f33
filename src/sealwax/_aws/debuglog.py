"""botocore's own log, without what could be a secret.

botocore logs whole requests and answers: data keys, access keys, session tokens, MFA codes, signatures. So nothing is
searched for secrets here, which botocore's next release could write in another way. A message is shown as its
template, in which only those values stand that are known to be harmless; whatever is not known is withheld.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Self
from urllib.parse import urlsplit

_LOGGERS: Final = ("botocore", "boto3", "urllib3")
# Hundreds of lines for each call, about botocore itself.
_SILENT: Final = ("botocore.hooks", "botocore.loaders", "botocore.regions", "urllib3.util")
WITHHELD: Final = "[withheld]"

# Templates, and which of their values are shown. All others are withheld.
_SHOWN: Final[Mapping[str, tuple[int, ...]]] = {
    "Making request for %s with params: %s": (0,),
    "Setting %s timeout as %s": (0, 1),
    "Looking for credentials via: %s": (0,),
    "Found credentials in shared credentials file: %s": (0,),
    "Credentials found in config file: %s": (0,),
    "Retrieved credentials will expire at: %s": (0,),
    "Found credentials from IAM Role: %s": (0,),
    "Refreshing temporary credentials failed during %s refresh period.": (0,),
    "Refreshing token failed during the %s refresh period.": (0,),
    "Cached SSO token expires at %s": (0,),
    "Loading cached SSO token for %s": (0,),
    "Looking for endpoint for %s via: %s": (0, 1),
    "Found endpoint for %s via: %s.": (0, 1),
    "Setting config variable for %s to %r": (0,),
    "Registering retry handlers for service: %s": (0,),
    "Response received to retry, sleeping for %s seconds": (0,),
    "retry needed: retryable HTTP status code received: %s": (0,),
    "retry needed: matching HTTP status and error code seen: %s, %s": (0, 1),
    "Retry needed, retrying request after delay of: %s": (0,),
    "Max attempts of %s reached.": (0,),
    "Reached the maximum number of retry attempts: %s": (0,),
    "Certificate path: %s": (0,),
    "Starting new HTTP connection (%d): %s:%s": (0, 1, 2),
    "Starting new HTTPS connection (%d): %s:%s": (0, 1, 2),
    "Resetting dropped connection: %s": (0,),
    # Without the path: that of a container's credentials is as good as a password.
    '%s://%s:%s "%s %s %s" %s %s': (0, 1, 2, 3, 5, 6, 7),
}
# A message without values could have been put together from them.
_WHOLE: Final = frozenset(
    {
        "Calculating signature using v4 auth.",
        "Credentials need to be refreshed.",
        "Credentials for role retrieved from cache.",
        "Credentials were found in cache, but they are expired.",
        "Exception received when sending HTTP request.",
        "Found credentials in environment variables.",
        "Found token in environment variables.",
        "Ignoring configured endpoint URLs.",
        "No configured endpoint found.",
        "No retry needed.",
        "Not retrying request.",
        "Access to EC2 metadata has been disabled.",
        "Retry needed but retry quota reached, not retrying request.",
        "SSO Token refresh succeeded",
        "SSO token refresh attempt failed",
        "Skipping environment variable credential check because profile name was explicitly set.",
        "Using S3 path style addressing.",
        "Using S3 virtual host style addressing.",
        "Waiting for 100 Continue response.",
    }
)
_PLACEHOLDER: Final = re.compile(r"%(?:\([^)]*\))?[-#0 +.*\d]*[a-zA-Z]")
_REQUEST_HEADERS: Final = ("host", "x-amz-target", "content-type", "content-length", "user-agent", "range")
_ANSWER_HEADERS: Final = ("x-amzn-requestid", "x-amz-request-id", "content-type", "content-length", "date", "server")


class DebugLog(logging.Handler):
    """Shows botocore's log. Use it with ``with``.

    Args:
        show: gets each line.
    """

    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__(logging.DEBUG)
        self._show = show
        self._before: list[tuple[logging.Logger, int, bool]] = []

    def __enter__(self) -> Self:
        for logger in map(logging.getLogger, _LOGGERS):
            self._before.append((logger, logger.level, logger.propagate))
            logger.setLevel(logging.DEBUG)
            logger.propagate = False  # no other handler gets what is withheld here
            logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        for logger, level, propagate in self._before:
            logger.removeHandler(self)
            logger.setLevel(level)
            logger.propagate = propagate

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith(_SILENT):
            failure = record.exc_info[0] if record.exc_info else None
            text = " ".join(_harmless(record).split())
            self._show(f"{record.name}: {text}{f' ({failure.__name__})' if failure else ''}")

    def follow(self, session: Any) -> None:
        """Show what the requests and answers of a session's clients are, without bodies and signatures."""
        session.events.register_first("before-send", self._sending, unique_id="sealwax-debug-sends")
        session.events.register_first("response-received", self._received, unique_id="sealwax-debug-received")

    def _sending(self, request: Any, **_: object) -> None:
        parts = urlsplit(request.url)
        # Not its query, which is where presigned URLs have their signature, nor a password before the host.
        url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        self._show(f"request: {request.method} {url}{_headers(request.headers, _REQUEST_HEADERS)}")

    def _received(self, response_dict: Any, exception: Any, **_: object) -> None:
        if response_dict is None:
            self._show(f"no answer: {type(exception).__name__}")
        else:
            headers = _headers(response_dict["headers"], _ANSWER_HEADERS)
            self._show(f"answer: {response_dict['status_code']}{headers}")


def _harmless(record: logging.LogRecord) -> str:
    if not record.args:
        return record.msg if record.msg in _WHOLE else WITHHELD
    values = tuple(record.args.values()) if isinstance(record.args, Mapping) else record.args
    template, shown = str(record.msg), _SHOWN.get(str(record.msg), ())
    parts = (str(value) if number in shown else WITHHELD for number, value in enumerate(values))
    return _PLACEHOLDER.sub(lambda _: next(parts, WITHHELD), template)


def _headers(headers: Mapping[Any, Any], names: tuple[str, ...]) -> str:
    found = {_text(name).lower(): _text(value) for name, value in headers.items()}
    return "".join(f"; {name}: {found[name]}" for name in names if name in found)


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
