"""The folder that each verb's commands begin with. ``scenes.py`` says what is in it."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Final

import sealwax
from sealwax.lab import Lab
from sealwax.records import SqlKeys
from tests.cli.shell import flipped, payload_offset

_CONTEXT: Final = {"purpose": "backup"}


def make(folder: Path) -> dict[str, str]:
    """Make it. Return the random names in it, and what stands for them."""
    with Lab(folder / "lab") as lab:
        demo, demo2, off = sorted(lab.create_key()["Arn"] for _ in range(3))  # lists are in this order
        for alias, arn in (("demo", demo), ("demo2", demo2), ("off", off)):
            lab.call("CreateAlias", AliasName=f"alias/{alias}", TargetKeyId=arn)
        lab.call("DisableKey", KeyId=off)
        carol = lab.add_principal("carol")
        sealer = sealwax.Sealer(sealwax.KmsKeyring(demo, session=lab.session()))
        for name in ("a.txt", "in/a.txt", "in/b.txt"):
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text("the crown jewels\n")
        for name in ("a.swx", "b.swx", "sealed/a.swx", "sealed/b.swx", "sealed/c.swx"):
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(sealer.encrypt(b"the crown jewels\n", context=_CONTEXT))
        _make_shop(folder, sealwax.KmsKeyring(demo, session=lab.session()))
        names = {}
        for arn, letter in ((demo, "D"), (demo2, "E"), (off, "O")):
            names[arn.rpartition("/")[2]] = _id(letter)
            names[lab.call("DescribeKey", KeyId=arn)["KeyMetadata"]["CurrentKeyMaterialId"]] = letter * 64
    sealed = (folder / "a.swx").read_bytes()
    (folder / "tampered.swx").write_bytes(flipped(sealed, payload_offset(sealed) + 60))
    (folder / "damaged.swx").write_bytes(flipped(sealed, 20))
    (folder / ".aws").mkdir()
    (folder / ".aws/credentials").write_text(
        f"[carol]\naws_access_key_id = {carol['AccessKeyId']}\naws_secret_access_key = {carol['SecretAccessKey']}\n"
    )
    return names


def _make_shop(folder: Path, keyring: sealwax.KmsKeyring) -> None:
    """Make shop.db, a key store with a table beside it, and fields.toml, its map of fields."""
    store = SqlKeys(f"sqlite:///{folder}/shop.db")
    store.create_table()
    with (
        contextlib.closing(sqlite3.connect(folder / "shop.db")) as shop,
        sealwax.Records(keyring, store, scope={"app": "shop"}) as records,
    ):
        field = records.field("users.card", row=int)
        cards: list[object] = [field.seal(b"4111", row=number) for number in (1, 2)]
        records.roll()
        cards += [field.seal(b"4111", row=3), cards[0], None]  # the fourth is a copy of another row's
        shop.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, card BLOB)")
        shop.executemany("INSERT INTO users VALUES (?, ?)", enumerate(cards, 1))
        shop.commit()
    (folder / "fields.toml").write_text(
        '[[fields]]\ntable = "users"\ncolumn = "card"\nrow = { column = "id", type = "int" }\n'
    )


def _id(letter: str) -> str:
    return "-".join(letter * size for size in (8, 4, 4, 4, 12))
