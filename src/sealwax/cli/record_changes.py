"""sealwax records shred, repair and remove: what cannot be undone, or undoes a loss."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from sealwax._core import context as ctx
from sealwax._text import printable
from sealwax.cli import FINDINGS, console, options, record_rows
from sealwax.cli.console import counted
from sealwax.cli.kms import Keys
from sealwax.cli.record_store import kms, open_store, opened, parsed_url, scope, store
from sealwax.errors import KeyStoreError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

    from sealwax.records import KeyRow, KeyStore, SqlKeys

_dry_run = click.option("--dry-run", is_flag=True, help="Show what would be done; change nothing.")
_DENIED: Final = ("kms:Decrypt", "kms:GenerateDataKey", "kms:ReEncryptFrom")
# Sids of a key policy are plain, and have to differ.
_SID_DIGITS: Final = 16
_LEAST_ID: Final = 8


@click.command()
@store
@scope(required=True)
@click.option(
    "--confirm",
    metavar="SCOPE",
    help="The scope once more, as NAME=VALUE,NAME=VALUE. Without this option, it is asked for on the terminal.",
)
@_dry_run
@options.as_json
@options.loudness
def shred(store: SqlKeys, scope: Mapping[str, str], confirm: str | None, dry_run: bool, as_json: bool) -> None:
    """Destroy the data keys of a scope, so that nothing sealed for it can be opened again.

    This cannot be undone. Other scopes are not affected, even those with the same pairs and more. KMS is not called.

    A backup of the key store still has the wrapped keys. The printed Deny statement holds against that: add it to the
    policy of each KMS key that wrapped them. Running programs may still open for a while, as the command says.
    """
    rows = record_rows.rows_of(store, scope)
    alive = [row for row in rows if row.state != "shredded"]
    shown = record_rows.scope_text(scope)
    if alive and not dry_run:
        _confirm(shown, alive, confirm)
        rows = store.shred(scope)
    else:
        rows = alive
    deny = deny_statement(scope)
    if as_json:
        keys = [record_rows.as_dict(row) for row in rows]
        console.print_json({"scope": dict(scope), "shredded": keys, "dry_run": dry_run, "deny": deny})
    else:
        verb = "would be destroyed" if dry_run else "destroyed"
        console.report(f"{shown}: {counted(len(rows), 'data key')} {verb}" if rows else f"{shown}: already shredded")
        console.report(json.dumps(deny, indent=2))
    _say_what_remains(rows, dry_run=dry_run)


def _confirm(shown: str, alive: Sequence[KeyRow], typed: str | None) -> None:
    """Have the scope typed again."""
    if typed is None:
        if not os.isatty(0) or not sys.stderr.isatty():
            raise click.UsageError(
                f"shredding cannot be undone; repeat the scope to confirm it: --confirm {shlex.quote(shown)}"
            )
        console.warn(
            f"{counted(len(alive), 'data key')} will be destroyed, and what is sealed under them is lost. This cannot "
            "be undone."
        )
        click.echo(f"Type the scope ({shown}) to go on: ", err=True, nl=False)
        typed = os.read(0, 1 << 16).decode(errors="replace")
        if not typed:  # the end of the input, which leaves the line open
            click.echo(err=True)
    if sorted(typed.strip().split(",")) != sorted(shown.split(",")):
        raise click.UsageError(
            f"the scope to confirm is '{printable(typed.strip())}', but that of -c is '{shown}'; nothing was destroyed"
        )


def _say_what_remains(rows: Sequence[KeyRow], *, dry_run: bool) -> None:
    if dry_run:
        console.info("dry run: nothing was destroyed")
        return
    arns = sorted({arn for row in rows for arn in record_rows.kms_keys(row) or ()})
    # Backups from before a rotation have them under the KMS keys of that time, which the rows do not name.
    of = (
        f"{', '.join(map(printable, arns))}, and of every KMS key before it"
        if arns
        else "each KMS key that wrapped them"
    )
    console.info(
        f"backups of the key store still have the wrapped keys; add the Deny statement to the key policy of {of}"
    )
    if rows:
        console.info(
            "running programs may open until they look at the key store again (60 seconds by default), or until the "
            "age limit of their keys (1 hour by default) if they cannot reach it"
        )


def deny_statement(scope: Mapping[str, str]) -> dict[str, Any]:
    """Return the statement of a key policy that keeps the data keys of one scope wrapped for good."""
    names = [_literal(name) for name in sorted({*scope, "sealwax-use"})]
    return {
        "Sid": f"SealwaxShredded{hashlib.sha256(ctx.encode(scope)).hexdigest()[:_SID_DIGITS]}",
        "Effect": "Deny",
        "Principal": {"AWS": "*"},
        "Action": list(_DENIED),
        "Resource": "*",
        "Condition": {
            "StringEquals": {f"kms:EncryptionContext:{name}": _literal(value) for name, value in sorted(scope.items())},
            # Scopes that have these pairs and more stay usable.
            "ForAllValues:StringEquals": {"kms:EncryptionContextKeys": names},
            "Null": {"kms:EncryptionContext:sealwax-use": "false"},
        },
    }


def _literal(text: str) -> str:
    return text.replace("${", "${$}{")  # "${" begins a variable


def _other_url(context: click.Context, _param: click.Parameter, text: str) -> URL | None:
    return None if context.resilient_parsing else parsed_url(text, "--from")


@click.command()
@store
@scope(required=False)
@click.option(
    "--from",
    "source",
    metavar="URL",
    required=True,
    callback=_other_url,
    help="The database with the rows that the store lost: a replica, or a restored backup.",
)
@_dry_run
@options.as_json
@options.loudness
def repair(store: SqlKeys, scope: Mapping[str, str], source: URL, dry_run: bool, as_json: bool) -> int:
    """Copy data keys that a key store has lost from another one, such as a backup that was restored beside it.

    Only rows that are missing are added; none is replaced. A key of a scope that was shredded later is not put back.
    With -c, only scopes with these pairs are repaired. KMS is not called; `sealwax records ensure` checks a scope.

    The exit status is 3 if a scope is shredded there, but not in the key store, which was restored from an older copy.
    Its keys are left out until it is shredded again.
    """
    other = open_store(source, other=True)
    found = record_rows.in_order(other.list(scope or None))
    if not found:
        raise KeyStoreError(f"the key store {other.url} has no data keys{' of such a scope' if scope else ''}")
    rows = _Rows(store, scope)
    revived = {ctx.encode(row.scope): row for row in found if row.state == "shredded" and rows.opens(row)}
    put_back, left_out = [], []
    for row in (row for row in found if row.state != "shredded" and not rows.has(row)):
        if ctx.encode(row.scope) in revived or rows.is_shredded_since(row):
            left_out.append(row)
        elif dry_run or store.put_back(row):
            put_back.append(row)
    shred_first = sorted(record_rows.scope_text(row.scope) for row in revived.values())
    _say_repaired(put_back, left_out, shred_first, dry_run=dry_run, as_json=as_json)
    return FINDINGS if revived else 0


class _Rows:
    """What a key store had a moment ago."""

    def __init__(self, store: KeyStore, scope: Mapping[str, str]) -> None:
        self._store = store
        self._of: dict[tuple[bytes, int], list[KeyRow]] = {}
        for row in store.list(scope or None):
            self._of.setdefault(self._key(row), []).append(row)

    @staticmethod
    def _key(row: KeyRow) -> tuple[bytes, int]:
        return ctx.encode(row.scope), row.kind

    def _near(self, row: KeyRow) -> list[KeyRow]:
        return self._of.get(self._key(row), [])

    def has(self, row: KeyRow) -> bool:
        return any(each.key_id == row.key_id for each in self._near(row))

    def is_shredded_since(self, row: KeyRow) -> bool:
        """Whether the scope was shredded when it had this generation, or a later one."""
        newest = self._store.newest(row.scope, row.kind)  # somebody may have just done it
        there = [*self._near(row), *([] if newest is None else [newest])]
        return any(each.state == "shredded" and each.generation >= row.generation for each in there)

    def opens(self, row: KeyRow) -> bool:
        """Whether what was sealed before a scope was shredded can be opened: the store is older than that."""
        return any(each.state != "shredded" and each.generation <= row.generation for each in self._near(row))


def _say_repaired(
    put_back: Sequence[KeyRow], left_out: Sequence[KeyRow], shred_first: Sequence[str], *, dry_run: bool, as_json: bool
) -> None:
    if as_json:
        console.print_json(
            {
                "put_back": [record_rows.as_dict(row) for row in put_back],
                "left_out": [record_rows.as_dict(row) for row in left_out],
                "shred_first": list(shred_first),
                "dry_run": dry_run,
            }
        )
    else:
        for row in put_back:
            console.report(f"{record_rows.named(row)}: {'would be put back' if dry_run else 'put back'}")
    what = "missing" if dry_run else "put back"
    more = f"; {counted(len(left_out), 'data key')} of shredded scopes left out" if left_out else ""
    console.info(f"{counted(len(put_back), 'data key')} {what}{more}" if put_back else f"no data key is missing{more}")
    for shredded in shred_first:
        console.warn(
            f"{shredded}: shredded in the database of --from, but not in the key store, which is an older copy, so its "
            "records can be opened again. Shred it, then run this command once more"
        )


@click.command()
@click.argument("key_id")
@store
@scope(required=False)
@kms
@options.as_json
@options.loudness
def remove(store: SqlKeys, key_id: str, scope: Mapping[str, str], keys: Keys, as_json: bool) -> None:
    """Delete a row of the key store whose data key cannot be unwrapped, because the row was damaged or altered.

    KEY_ID is that of `sealwax records list`, or its beginning. A row that unwraps is not deleted, and neither is one
    that KMS does not answer for. First look for a backup that has the row undamaged. The caller needs kms:Decrypt.
    """
    row = _row(store, key_id, scope)
    if row.state == "shredded":
        raise KeyStoreError(f"{record_rows.named(row)}: kept, because it marks a scope that was shredded")
    with opened(store, keys, row.scope) as records:
        try:
            records.remove(row)
        except ValueError:
            raise KeyStoreError(
                f"{record_rows.named(row)}: kept, because KMS unwraps it; to destroy a scope's keys, use shred"
            ) from None
    record_rows.report(row, "removed", as_json=as_json)


def _row(store: KeyStore, typed: str, scope: Mapping[str, str]) -> KeyRow:
    """Return the row whose key id begins with what was typed."""
    if not re.fullmatch(rf"[0-9a-f]{{{_LEAST_ID},32}}", typed.lower()):
        raise click.UsageError(
            f"'{printable(typed)}' is not a key id: at least {_LEAST_ID} hexadecimal digits, as `sealwax records list` "
            "shows them"
        )
    rows = [row for row in store.list(scope or None) if row.key_id.hex().startswith(typed.lower())]
    if len(rows) == 1:
        return rows[0]
    if rows:
        raise click.UsageError(f"'{typed}' is the beginning of {len(rows)} key ids; give more digits, or the scope")
    raise KeyStoreError(f"the key store has no key id that begins with '{typed}'")
