"""``sealwax lab``: the embedded KMS, its keys and its server."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from sealwax._core import trusted
from sealwax._core.context import printable
from sealwax.cli import console
from sealwax.cli.options import no_lab, open_lab
from sealwax.errors import LabError
from sealwax.lab import Lab

_Command = Callable[..., Any]
_MAX_POLICY: Final = 1 << 20

_POLICY: Final = trusted.Kind("the policy", LabError)


def _folder(command: _Command, *, make: bool = False) -> _Command:
    """The options that say which lab is meant and how it opens; the command gets the opened lab first.

    Args:
        make: whether the command makes a lab where there is none.
    """
    more = "; made when missing" if make else ""

    @click.option("--lab", "folder", envvar="SEALWAX_LAB", metavar="DIR", help=f"The lab's folder{more}.")
    @click.option(
        "--lab-key-file", envvar="SEALWAX_LAB_KEY_FILE", metavar="FILE", help="A key file that opens the lab."
    )
    def opened(folder: str | None, lab_key_file: str | None, **arguments: Any) -> None:
        if not folder:
            raise click.UsageError("no lab was named: give --lab DIR or set SEALWAX_LAB")
        new = make and no_lab(folder)
        with open_lab(folder, lab_key_file, make=make) as lab:
            if new:
                console.say(f"made a new lab in '{printable(os.path.abspath(folder))}'")
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
@functools.partial(_folder, make=True)
def create_key(lab: Lab, *, alias: str | None, region: str, description: str, as_json: bool) -> None:
    """Create a symmetric KMS key and print its ARN.

    Where there is no lab yet, it makes one, as `lab serve` does. No other command does, so that a mistyped --lab is an
    error.
    """
    metadata = lab.create_key(alias=alias, region=region, description=description)
    console.put(json.dumps(_readable(metadata)) if as_json else metadata["Arn"])


@lab.command("keys")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@_folder
def keys(lab: Lab, *, as_json: bool) -> None:
    """List the keys of every account and Region."""
    found = lab.list_keys()
    if as_json:
        for metadata in found:
            console.put(json.dumps(_readable(metadata)))
        return
    rows = [(key["KeyState"], ", ".join(key["Aliases"]) or "-", key["Arn"]) for key in found]
    _table(("STATE", "ALIASES", "ARN"), rows)


@lab.command("serve")
@click.option("--port", type=click.IntRange(0, 65535), default=4599, show_default=True, help="0 takes a free port.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on; :: is all.")
@click.option(
    "--allow-host",
    "names",
    multiple=True,
    metavar="NAME",
    help="Another name or address that clients call it by; repeatable. Requests for any other host are refused.",
)
@click.option("--tls-cert", type=click.Path(path_type=Path), help="A certificate chain, to speak HTTPS.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="The private key of the certificate.")
@click.option("--upstream", metavar="URL", help="An endpoint for the CloudTrail calls that the lab does not offer.")
@functools.partial(_folder, make=True)
def serve(
    lab: Lab,
    *,
    port: int,
    host: str,
    names: tuple[str, ...],
    tls_cert: Path | None,
    tls_key: Path | None,
    upstream: str | None,
) -> None:
    """Serve the lab over HTTP for the AWS CLI and other SDKs, until Ctrl-C. Where there is no lab yet, it makes one.

    One server is every Region: the Region is the one that a request was signed for.
    """
    from sealwax.lab import Server

    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key are given together")
    tls = None if tls_cert is None or tls_key is None else (tls_cert, tls_key)
    server = Server(lab, host=host, port=port, tls=tls, names=names, upstream=upstream)
    if not server.is_loopback:
        console.say(f"warning: {host} can be reached from other machines; the lab is no place for real secrets")
    console.put(f"sealwax lab is ready at {server.url}")
    sys.stdout.flush()
    with contextlib.suppress(KeyboardInterrupt):
        server.serve()
    server.close()


@lab.group("principal")
def principal() -> None:
    """Users and roles of the lab."""


@principal.command("add")
@click.argument("name")
@click.option("--role", is_flag=True, help="A role, which callers of its account may assume, instead of a user.")
@click.option("--account", default="111122223333", show_default=True, help="The twelve digits of its account.")
@click.option("--policy", metavar="FILE", help="A file with its identity policy; - is standard input.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@_folder
def add_principal(lab: Lab, *, name: str, role: bool, account: str, policy: str | None, as_json: bool) -> None:
    """Add a user or role and print its ARN and, for a user, its access key.

    Until the first one is added any access key acts as the account's root; afterwards only known ones are served.
    """
    document = None
    if policy is not None:
        document = console.read_text("/dev/stdin" if policy == "-" else policy, _POLICY, _MAX_POLICY)
    added = lab.add_principal(name, role=role, account=account, policy=document)
    if as_json:
        console.put(json.dumps(added))
        return
    for field, value in added.items():
        console.put(f"{field}  {value}")


@lab.command("fault")
@click.option("--region", required=True, help="The Region that it is in.")
@click.option("--operation", metavar="O", help="Only this operation, for instance Decrypt.")
@click.option("--throttle", type=float, metavar="P", help="Answer ThrottlingException with this chance, 0 to 1.")
@click.option("--error", type=(str, float), metavar="CODE P", help="Answer this error with this chance.")
@click.option("--latency", type=float, metavar="MS", help="Answer so many milliseconds later.")
@click.option("--down", is_flag=True, help="Do not answer at all.")
@click.option("--reset", type=float, metavar="P", help="Cut the connection with this chance.")
@click.option("--quota", type=float, metavar="N", help="Throttle each account above so many requests a second.")
@click.option(
    "--eventual", type=float, metavar="S", help="Let new grants and key policies count after so many seconds."
)
@click.option("--clear", is_flag=True, help="Remove the faults of the Region, or of the operation there.")
@click.option("--seed", type=int, default=0, show_default=True, help="What the chances are drawn from.")
@_folder
def fault(lab: Lab, *, region: str, operation: str | None, seed: int, clear: bool, **given: Any) -> None:
    """Set faults of a Region, or clear them; they last until they are cleared."""
    error = given.pop("error")
    kinds: dict[str, tuple[float, str | None]] = {
        {"eventual": "consistency"}.get(name, name): (float(value), None)
        for name, value in given.items()
        if value is not None and value is not False
    }
    if error is not None:
        kinds["error"] = (error[1], error[0])
    if clear == bool(kinds):
        raise click.UsageError("give --clear, or at least one fault to set")
    if clear and not lab.faults.clear(region, operation):
        console.say(f"no faults to clear{f' for {printable(operation)}' if operation else ''} in {region}")
    for kind, (amount, code) in kinds.items():
        lab.faults.add(region, kind, amount, operation=operation, code=code, seed=seed)


@lab.command("trail")
@click.option("--json", "as_json", is_flag=True, help="Print each CloudTrail record on a line, with its reason.")
@_folder
def trail(lab: Lab, *, as_json: bool) -> None:
    """Show what was asked of the lab: when, who, which operation, which context, and why it was allowed or denied."""
    rows = []
    for event in lab.trail.events():
        if as_json:
            console.put(json.dumps({"record": event.record, "reason": event.reason}))
            continue
        record = event.record
        asked = record["requestParameters"] or {}
        contexts = (value for name, value in asked.items() if name.lower().endswith("encryptioncontext"))
        context: dict[str, str] = next(contexts, {})
        pairs = ", ".join(f"{printable(name)}={printable(value)}" for name, value in context.items())
        outcome = record.get("errorCode", "ok")
        rows.append(
            (record["eventTime"], event.username, record["eventName"], outcome, pairs or "-", event.reason or "-")
        )
    if not as_json:
        _table(("TIME", "WHO", "OPERATION", "OUTCOME", "CONTEXT", "WHY"), rows)


def _readable(metadata: dict[str, Any]) -> dict[str, Any]:
    """Metadata with its times as text, as the AWS CLI prints them."""
    return {
        name: datetime.fromtimestamp(value, UTC).isoformat() if isinstance(value, float) else value
        for name, value in metadata.items()
    }


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        console.put("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
