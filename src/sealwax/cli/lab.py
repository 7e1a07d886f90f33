"""``sealwax lab``: the embedded KMS, its keys and its server."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from sealwax._core import trusted
from sealwax._text import printable
from sealwax.cli import console, options
from sealwax.cli.kms import no_lab, open_lab
from sealwax.errors import LabError
from sealwax.lab import Lab
from sealwax.policy import parse_identity_policy

_MAX_POLICY: Final = 1 << 20

_POLICY: Final = trusted.Kind("the policy", LabError)


def _folder(command: options.Command, *, create: bool = False) -> options.Command:
    """Add the options that name a lab and open it; the command gets the open lab first.

    Args:
        create: whether the command creates the lab if it is missing.
    """
    more = "; it is created if missing" if create else ""

    @click.option("--lab", "folder", envvar="SEALWAX_LAB", metavar="DIR", help=f"The lab's folder{more}.")
    @click.option(
        "--lab-key-file", envvar="SEALWAX_LAB_KEY_FILE", metavar="FILE", help="The key file of a protected lab."
    )
    @functools.wraps(command)
    def opened(folder: str | None, lab_key_file: str | None, **arguments: object) -> None:
        if not folder:
            raise click.UsageError("name a lab with --lab or in SEALWAX_LAB")
        new = create and no_lab(folder)
        with open_lab(folder, lab_key_file, create=create) as lab:
            if new:
                console.info(f"created a lab in '{printable(os.path.abspath(folder))}'")
            command(lab, **arguments)

    return opened


@click.group()
def lab() -> None:
    """Run an embedded KMS for trials and tests, without an AWS account.

    --lab or SEALWAX_LAB names its folder. To encrypt its key material, create it with SEALWAX_LAB_PASSPHRASE set or
    with a key file; it then opens only with the same passphrase or key file.
    """


@lab.command("create-key")
@click.option("--alias", metavar="NAME", help="An alias for the key; the prefix alias/ may be omitted.")
@click.option("--region", default="us-east-1", show_default=True, help="The key's Region.")
@click.option("--description", default="", help="What the key is for.")
@click.option("--json", "as_json", is_flag=True, help="Print the key's metadata as one JSON object.")
@options.loudness
@functools.partial(_folder, create=True)
def create_key(lab: Lab, *, alias: str | None, region: str, description: str, as_json: bool) -> None:
    """Create a symmetric KMS key and print its ARN. The lab is created if it is missing.

    Only create-key and serve create a lab; for other commands a mistyped --lab is an error.
    """
    metadata = lab.create_key(alias=alias, region=region, description=description)
    console.print(json.dumps(_readable(metadata)) if as_json else metadata["Arn"])


@lab.command("keys")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per key, one per line.")
@options.loudness
@_folder
def keys(lab: Lab, *, as_json: bool) -> None:
    """List the keys of all accounts and Regions."""
    listed = lab.list_keys()
    if as_json:
        for metadata in listed:
            console.print(json.dumps(_readable(metadata)))
        return
    rows = [(key["KeyState"], ", ".join(key["Aliases"]) or "-", key["Arn"]) for key in listed]
    console.print_columns(("STATE", "ALIASES", "ARN"), rows)


@lab.command("serve")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=4599, show_default=True, help="The port; 0 chooses a free one."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on; use :: for all.")
@click.option(
    "--allow-host",
    "names",
    multiple=True,
    metavar="NAME",
    help="Another host name or address that clients use; repeatable. Requests for other hosts are refused.",
)
@click.option("--tls-cert", type=click.Path(path_type=Path), help="A certificate chain, to serve HTTPS.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="The certificate's private key.")
@click.option(
    "--upstream", metavar="URL", help="Forward CloudTrail calls that the lab does not support to this endpoint."
)
@options.loudness
@functools.partial(_folder, create=True)
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
    """Serve the lab over HTTP for the AWS CLI and SDKs, until Ctrl-C. The lab is created if it is missing.

    One server serves all Regions: a request goes to the Region that it is signed for.
    """
    from sealwax.lab import Server

    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key must be given together")
    tls = None if tls_cert is None or tls_key is None else (tls_cert, tls_key)
    server = Server(lab, host=host, port=port, tls=tls, names=names, upstream=upstream)
    if not server.is_loopback:
        console.info(f"warning: other machines can reach {host}; do not use a lab for real secrets")
    with contextlib.suppress(KeyboardInterrupt):
        console.print(f"sealwax lab is ready at {server.url}")
        sys.stdout.flush()
        server.serve()
    server.close()


@lab.group("principal")
def principal() -> None:
    """Manage the users and roles of the lab."""


@principal.command("add")
@click.argument("name")
@click.option("--role", is_flag=True, help="Add a role instead of a user; callers of its account may assume it.")
@click.option("--account", default="111122223333", show_default=True, help="The ID of its account.")
@click.option("--policy", metavar="FILE", help="A file with its identity policy; - for standard input.")
@options.as_json
@options.loudness
@_folder
def add_principal(lab: Lab, *, name: str, role: bool, account: str, policy: str | None, as_json: bool) -> None:
    """Add a user or role and print its ARN and, for a user, an access key.

    Until a principal is added, any access key acts as the account's root user; after that, only known keys are
    accepted.
    """
    document = None
    if policy is not None:
        document = console.read_text("/dev/stdin" if policy == "-" else policy, _POLICY, _MAX_POLICY)
        parse_identity_policy(document, name=f"identity policy '{console.shown(policy)}'")  # the lab knows no file
    added = lab.add_principal(name, role=role, account=account, policy=document)
    if as_json:
        console.print(json.dumps(added))
        return
    for field, value in added.items():
        console.print(f"{field}  {value}")


@lab.command("fault")
@click.option("--region", required=True, help="The Region to disturb.")
@click.option("--operation", metavar="O", help="Disturb only this operation, such as Decrypt.")
@click.option("--throttle", type=float, metavar="P", help="Return ThrottlingException with this probability, 0 to 1.")
@click.option("--error", type=(str, float), metavar="CODE P", help="Return this error code with this probability.")
@click.option("--latency", type=float, metavar="MS", help="Delay answers by this many milliseconds.")
@click.option("--down", is_flag=True, help="Do not answer at all.")
@click.option("--reset", type=float, metavar="P", help="Cut the connection with this probability.")
@click.option("--quota", type=float, metavar="N", help="Throttle each account above this many requests per second.")
@click.option(
    "--eventual", type=float, metavar="S", help="Delay the effect of new grants and key policies by this many seconds."
)
@click.option("--clear", is_flag=True, help="Remove the faults of the Region, or of the operation there.")
@click.option("--seed", type=int, default=0, show_default=True, help="The seed of the random numbers.")
@options.loudness
@_folder
def fault(lab: Lab, *, region: str, operation: str | None, seed: int, clear: bool, **given: Any) -> None:
    """Inject faults into a Region, or clear them. Faults last until they are cleared."""
    error = given.pop("error")
    kinds: dict[str, tuple[float, str | None]] = {
        {"eventual": "consistency"}.get(name, name): (float(value), None)
        for name, value in given.items()
        if value is not None and value is not False
    }
    if error is not None:
        kinds["error"] = (error[1], error[0])
    if clear == bool(kinds):
        raise click.UsageError("use --clear, or at least one fault, but not both")
    if clear and not lab.faults.clear(region, operation):
        console.info(f"no faults to clear{f' for {printable(operation)}' if operation else ''} in {region}")
    for kind, (amount, code) in kinds.items():
        lab.faults.add(region, kind, amount, operation=operation, code=code, seed=seed)


@lab.command("trail")
@click.option("--json", "as_json", is_flag=True, help="Print one CloudTrail record per line, with its reason.")
@options.loudness
@_folder
def trail(lab: Lab, *, as_json: bool) -> None:
    """Show the calls to the lab, and why each was allowed or denied."""
    rows = []
    for event in lab.trail.events():
        if as_json:
            console.print(json.dumps({"record": event.record, "reason": event.reason}))
            continue
        record = event.record
        parameters = record["requestParameters"] or {}
        contexts = (value for name, value in parameters.items() if name.lower().endswith("encryptioncontext"))
        context: dict[str, str] = next(contexts, {})
        pairs = ", ".join(f"{printable(name)}={printable(value)}" for name, value in context.items())
        outcome = record.get("errorCode", "ok")
        rows.append(
            (record["eventTime"], event.username, record["eventName"], outcome, pairs or "-", event.reason or "-")
        )
    if not as_json:
        console.print_columns(("TIME", "WHO", "OPERATION", "OUTCOME", "CONTEXT", "WHY"), rows)


def _readable(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return metadata with its times as text, as the AWS CLI prints them."""
    return {
        name: datetime.fromtimestamp(value, UTC).isoformat() if isinstance(value, float) else value
        for name, value in metadata.items()
    }
