"""sealwax records index-bits: how many bits a blind index should have."""

from __future__ import annotations

from typing import Final

import click

from sealwax.cli import console, options

_MOST_ROWS: Final = 10**15
# Beside the suggested ones: what others use, and the least with which a unique index works.
_ALSO: Final = (32, 64, 128)
_HEAD: Final = ("BITS", "BYTES", "OTHER ROWS FOUND", "ROWS TOLD APART", "FIRST REPEAT AT")
_FEW: Final = 10
_MANY: Final = 10**12


@click.command("index-bits")
@click.option(
    "--rows",
    metavar="N",
    required=True,
    type=click.IntRange(1, _MOST_ROWS),
    help="How many rows the table will have; of the scope, if each scope has an index of its own.",
)
@options.as_json
@options.loudness
def index_bits(rows: int, as_json: bool) -> None:
    """Suggest how many bits a blind index should have.

    With few bits, a search finds rows with other values too, which are opened and compared. With many bits, equal
    indexes prove equal values to whoever sees them. docs/how-to/blind-indexes.md explains the columns. KMS and the key
    store are not used.
    """
    from sealwax.records._index_bits import RULE, SOURCE, alone, first_repeated, others, suggested

    bits = suggested(rows)
    table = [
        {
            "bits": each,
            "bytes": (each + 7) // 8,
            "other_rows": others(rows, each),
            "told_apart": alone(rows, each),
            "first_repeat_at": round(first_repeated(each)),
        }
        for each in sorted({*bits, *_ALSO})
    ]
    if as_json:
        about = {"rows": rows, "least": bits[0] if bits else None, "most": bits[-1] if bits else None}
        console.print_json({**about, "rule": RULE, "source": SOURCE, "bits": table})
        return
    lines = [("suggested", _suggestion(rows, bits)), ("rule", f"{RULE}, {SOURCE}")]
    console.print(console.facts(lines, 11) + "\n")
    console.print_table(
        _HEAD,
        [
            (
                str(each),
                str((each + 7) // 8),
                _rough(others(rows, each)),
                f"{alone(rows, each):.0%}",
                _rough(first_repeated(each)),
            )
            for each in sorted({*bits, *_ALSO})
        ],
    )


def _suggestion(rows: int, bits: range) -> str:
    if not bits:
        return f"no index: {console.counted(rows, 'row')} can be opened one by one"
    few = str(bits[0]) if len(bits) == 1 else f"{bits[0]} to {bits[-1]}"
    return f"{few} bits, for {rows:,} rows of different values"


def _rough(number: float) -> str:
    if number < _FEW:
        return f"{number:.2g}"
    return f"{number:,.0f}" if number < _MANY else f"{number:.1e}"
