"""A WSGI application for gunicorn with --preload: everything is made, and used once, before the workers are forked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import boto3

import sealwax

_client = boto3.client("kms")
_sealers = {
    "client": sealwax.Sealer(sealwax.KmsKeyring("alias/demo", client=_client)),
    "cache": sealwax.Sealer(
        sealwax.CachingKeyring(sealwax.KmsKeyring("alias/demo", client=_client), max_age=60, max_messages=3),
        local_context=("value",),
    ),
    "session": sealwax.Sealer(sealwax.KmsKeyring("alias/demo", session=boto3.Session())),
}
for _sealer in _sealers.values():
    _sealer.encrypt(b"before the fork", context={"purpose": "before", "value": "0"})


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Seal the last part of the path, bound to all of it; the answer is the worker's process id and the envelope."""
    _, kind, purpose, value = environ["PATH_INFO"].split("/")
    sealed = _sealers[kind].encrypt(value.encode(), context={"purpose": purpose, "value": value})
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {sealed.hex()}".encode()]
