"""``sealwax lab``: the embedded KMS, its keys and its server."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from sealwax.lab import Lab

_Command = Callable[..., Any]


def _folder(command: _Command) -> _Command:
    """The options that say which lab is meant and how it opens; the command gets the opened lab first."""

    @click.option("--lab", "folder", envvar="SEALWAX_LAB", metavar="DIR", help="The lab's folder; made when missing.")
    @click.option(
        "--lab-key-file", envvar="SEALWAX_LAB_KEY_FILE", metavar="FILE", help="A key file that opens the lab."
    )
    def opened(folder: str | None, lab_key_file: str | None, **arguments: Any) -> None:
        if not folder:
            raise click.UsageError("no lab was named: give --lab DIR or set SEALWAX_LAB")
        passphrase = os.environ.get("SEALWAX_LAB_PASSPHRASE")
        with Lab(folder, passphrase=passphrase, key_file=lab_key_file) as lab:
            command(lab, **arguments)

    opened.__doc__ = command.__doc__
    opened.__name__ = command.__name__
    inherited = getattr(command, "__click_params__", [])
    opened.__click_params__ = inherited + opened.__click_params__  # type: ignore[attr-defined]
    return opened


@click.group()
def lab() -> None:
    """An embedded KMS to try, test and rehearse with, without an AWS account.

    Its folder is named by --lab or SEALWAX_LAB. A lab that was made with SEALWAX_LAB_PASSPHRASE set, or with a key
    file, keeps its key material encrypted and opens with the same only.
    """


@lab.command("create-key")
@click.option("--alias", metavar="NAME", help="An alias for the key, with or without alias/ in front.")
@click.option("--region", default="us-east-1", show_default=True, help="The key's Region.")
@click.option("--description", default="", help="What the key is for.")
@click.option("--json", "as_json", is_flag=True, help="Print the key's metadata as one JSON object.")
@_folder
def create_key(lab: Lab, *, alias: str | None, region: str, description: str, as_json: bool) -> None:
    """Create a symmetric KMS key and print its ARN."""
    metadata = lab.create_key(alias=alias, region=region, description=description)
    click.echo(json.dumps(_readable(metadata)) if as_json else metadata["Arn"])


@lab.command("keys")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@_folder
def keys(lab: Lab, *, as_json: bool) -> None:
    """List the keys of every account and Region."""
    found = lab.keys()
    if as_json:
        for metadata in found:
            click.echo(json.dumps(_readable(metadata)))
        return
    rows = [(key["KeyState"], ", ".join(key["Aliases"]) or "-", key["Arn"]) for key in found]
    _table(("STATE", "ALIASES", "ARN"), rows)


@lab.command("serve")
@click.option("--port", type=click.IntRange(0, 65535), default=4599, show_default=True, help="0 takes a free port.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--tls-cert", type=click.Path(path_type=Path), help="A certificate chain, to speak HTTPS.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="The private key of the certificate.")
@_folder
def serve(lab: Lab, *, port: int, host: str, tls_cert: Path | None, tls_key: Path | None) -> None:
    """Serve the lab over HTTP for the AWS CLI and other SDKs, until Ctrl-C.

    One server is every Region: the Region is the one that a request was signed for.
    """
    from sealwax.lab.server import Server, is_loopback

    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key are given together")
    tls = None if tls_cert is None or tls_key is None else (tls_cert, tls_key)
    server = Server(lab.gateway, host=host, port=port, tls=tls)
    if not is_loopback(host):
        click.echo(
            f"sealwax: warning: {host} can be reached from other machines; the lab is no place for real secrets",
            err=True,
        )
    click.echo(f"sealwax lab is ready at {server.url}")
    sys.stdout.flush()
    with contextlib.suppress(KeyboardInterrupt):
        server.serve()
    server.close()


def _readable(metadata: dict[str, Any]) -> dict[str, Any]:
    """Metadata with its times as text, as the AWS CLI prints them."""
    return {
        name: datetime.fromtimestamp(value, UTC).isoformat() if isinstance(value, float) else value
        for name, value in metadata.items()
    }


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
