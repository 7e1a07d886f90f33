"""sealwax records: the data keys of records, in the key store of an application."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import click

from sealwax._core import files
from sealwax._core.format.header import MAGIC
from sealwax.cli import console, options, record_rows
from sealwax.cli.console import counted
from sealwax.cli.kms import Keys
from sealwax.cli.record_changes import remove, repair, shred
from sealwax.cli.record_index import index_bits
from sealwax.cli.record_store import kms, opened, scope, store
from sealwax.cli.record_tables import COMMANDS
from sealwax.errors import KeyStoreError, NotARecordError, UnknownKeyError

if TYPE_CHECKING:
    from sealwax.records import KeyRow, KeyStore, SqlKeys

# The largest record has a megabyte, and twice as many hexadecimal digits.
_MAX_VALUE: Final = 4 << 20
# As psql, mysql and sqlite3 print bytes.
_HEX: Final = re.compile(r"(?:\\?x|0x)?((?:[0-9a-f]{2})+)|x'((?:[0-9a-f]{2})+)'", re.IGNORECASE)
_ROLLED: Final = "running programs seal under it once they look at the store again (60 seconds by default)"


@click.group()
def records() -> None:
    """Manage the data keys that seal fields of databases.

    Each scope, such as app=shop and tenant=acme, has data keys of its own. The key store keeps them in a database,
    wrapped by KMS. docs/explanation/records.md describes records.
    """


@records.command("create-table")
@store
@options.as_json
@options.loudness
def create_table(store: SqlKeys, as_json: bool) -> None:
    """Create the tables of a key store, unless they exist.

    They are sealwax_keys and sealwax_keys_epoch. With migrations of your own, create them there:
    docs/how-to/key-stores.md.
    """
    store.create_table()
    if as_json:
        console.print_json({"store": store.url})
    else:
        console.report(f"the key store is ready: {store.url}")


@records.command("list")
@store
@scope(required=False)
@options.as_json
@options.loudness
def list_command(store: SqlKeys, scope: Mapping[str, str], as_json: bool) -> None:
    """List data keys: of all scopes, or of those that have the pairs of -c.

    The newest live generation seals; all but shredded ones open. "Opens only" is a key whose generation another key
    has taken. MADE BY is the request ID of the KMS call, which CloudTrail has too. KMS is not called.
    """
    found: list[KeyRow] = []
    damaged: KeyStoreError | None = None
    try:
        found.extend(store.list(scope or None))
    except KeyStoreError as error:
        damaged = error  # all other rows came before it
    rows = record_rows.in_order(found)
    if damaged is not None and not rows:
        raise damaged
    if as_json:
        console.print_json({"store": store.url, "keys": [record_rows.as_dict(row) for row in rows]})
    elif rows:
        console.print_table(record_rows.COLUMNS, [record_rows.cells(row) for row in rows])
    else:
        of_scope = f" of a scope with {record_rows.scope_text(scope)}" if scope else ""
        console.info(f"{store.url} has no data keys{of_scope}")
    if damaged is not None:
        raise damaged


@records.command("ensure")
@store
@scope(required=True)
@kms
@options.as_json
@options.loudness
def ensure(store: SqlKeys, scope: Mapping[str, str], keys: Keys, as_json: bool) -> None:
    """Make the first data key of a scope, and check that KMS unwraps each one that there is.

    Applications do this by themselves when they need a key. The caller needs kms:GenerateDataKey for a new scope, and
    kms:Decrypt for one that has keys.
    """
    from sealwax.records import KeyKind

    before = store.newest(scope, KeyKind.DATA)
    with opened(store, keys, scope) as records:
        records.ensure()
    row = _newest(store, scope)
    made = before is None or row.key_id != before.key_id
    record_rows.report(row, "made" if made else "exists, and KMS unwraps it", as_json=as_json)


@records.command("roll")
@store
@scope(required=True)
@kms
@options.as_json
@options.loudness
def roll(store: SqlKeys, scope: Mapping[str, str], keys: Keys, as_json: bool) -> None:
    """Make the next generation of a scope's data key.

    New records are sealed under it, and older records still open. Index keys are not rolled, because their values
    would no longer be found. To rotate the KMS key, which changes no record, use `sealwax fleet`. The caller needs
    kms:GenerateDataKey.
    """
    record_rows.rows_of(store, scope)  # a mistyped scope is not a new one
    with opened(store, keys, scope) as records:
        row = records.roll()
    record_rows.report(row, "made", as_json=as_json)
    console.info(_ROLLED)


@records.command("reopen")
@store
@scope(required=True)
@kms
@options.as_json
@options.loudness
def reopen(store: SqlKeys, scope: Mapping[str, str], keys: Keys, as_json: bool) -> None:
    """Make a data key for a scope that was shredded.

    What was sealed before stays lost. If a Deny for the scope was added to the key policy, remove it first. The caller
    needs kms:GenerateDataKey.
    """
    record_rows.rows_of(store, scope)
    with opened(store, keys, scope) as records:
        row = records.reopen()
    record_rows.report(row, "made", as_json=as_json)


@records.command("retire")
@click.argument("generation", type=click.IntRange(min=1))
@store
@scope(required=True)
@options.as_json
@options.loudness
def retire(store: SqlKeys, generation: int, scope: Mapping[str, str], as_json: bool) -> None:
    """Mark a generation of a scope's data key as retired, once no record is sealed under it.

    Records under it still open. The newest generation cannot be retired, because it seals. KMS is not called.
    """
    rows = record_rows.rows_of(store, scope)
    row = next((row for row in rows if row.kind == 1 and row.claim == generation), None)
    if row is None:
        raise KeyStoreError(
            f"the scope {record_rows.scope_text(scope)} has no generation {generation}; `sealwax records list` shows "
            "what it has"
        )
    if row.state == "retired":
        record_rows.report(row, "already retired", as_json=as_json)
        return
    if row.state == "shredded":
        raise KeyStoreError(f"{record_rows.named(row)}: cannot be retired, because it is shredded")
    if not store.retire(row):
        newest = _newest(store, scope).key_id == row.key_id
        raise KeyStoreError(
            f"{record_rows.named(row)}: cannot be retired, because "
            + (
                "it is the newest one, which seals; `sealwax records roll` makes a newer one"
                if newest
                else "it was changed meanwhile; run the command again"
            )
        )
    record_rows.report(_again(store, row), "retired", as_json=as_json)


@records.command("explain")
@click.argument("value")
@store
@scope(required=False)
@options.as_json
@options.loudness
def explain(store: SqlKeys, value: str, scope: Mapping[str, str], as_json: bool) -> None:
    """Show which data key a record is under, and its scope. Nothing is opened, and KMS is not called.

    VALUE is the record as text (swr1...), in hexadecimal as databases print it, or in base64; @FILE reads it from a
    file, and - from standard input. With -c, only scopes with these pairs are searched.
    """
    from sealwax.records._form import MIN_BYTES, parse

    record = parse(_value(value))
    row = next((row for row in store.list(scope or None) if row.key_id == record.key_id), None)
    facts = {
        "form": "text" if record.text else "binary",
        "bytes": len(record.binary),
        "value_bytes": max(len(record.binary) - MIN_BYTES - 1, 0),
        "key_id": record.key_id.hex(),
        "key": None if row is None else record_rows.as_dict(row),
    }
    if as_json:
        console.print_json(facts)
    else:
        lines = [
            ("record", f"{facts['form']}, of a value of {counted(int(str(facts['value_bytes'])), 'byte')}"),
            ("key id", record.key_id.hex()),
            *([] if row is None else record_rows.facts(row)),
        ]
        console.print(console.facts(lines))
    if row is None:
        among = f" in a scope with {record_rows.scope_text(scope)}" if scope else ""
        raise UnknownKeyError(
            f"the key store has no data key with the id {record.key_id.hex()}{among}: the record is of another key "
            "store, or its key was lost",
            record.key_id,
        )


def _value(typed: str) -> bytes | str:
    """Return the record that was typed, or what does not look like one."""
    if typed != "-" and not typed.startswith("@"):
        return _decoded(typed)
    name = typed.removeprefix("@")
    if not name:
        raise click.UsageError("@ needs the name of a file")
    console.claim(name)
    with console.StandardInput() if name == "-" else files.InputFile(name) as file:
        data = file.read(_MAX_VALUE)
    if data.startswith(MAGIC):
        raise NotARecordError("this is not a record, but an envelope; `sealwax inspect` shows what it is")
    try:
        return _decoded(data.decode("ascii"))
    except UnicodeDecodeError:
        return data


def _decoded(text: str) -> bytes | str:
    text = "".join(text.split())  # base64 and xxd break lines
    if match := _HEX.fullmatch(text):
        return bytes.fromhex(match[1] or match[2])
    try:
        binary = base64.b64decode(text.translate({45: 43, 95: 47}) + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return text
    return binary if binary[:1] == b"\xc1" else text


def _newest(store: KeyStore, scope: Mapping[str, str]) -> KeyRow:
    from sealwax.records import KeyKind

    row = store.newest(scope, KeyKind.DATA)
    if row is None:
        raise KeyStoreError("the key store has lost the data key that it has just had; look for who deletes rows")
    return row


def _again(store: KeyStore, row: KeyRow) -> KeyRow:
    return next((each for each in store.get_many(row.scope, [row.key_id]) if each.kind == row.kind), row)


for _command in (shred, repair, remove, index_bits, *COMMANDS):
    records.add_command(_command)
