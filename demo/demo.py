"""The main features on a real file and a database, with the embedded lab. Everything runs as it is shown."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import os
import pty
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import textwrap
import time
from pathlib import Path

BOLD, DIM, GREEN, END = ("\033[1m", "\033[2m", "\033[32m", "\033[0m") if sys.stdout.isatty() else ("",) * 4


def heading(text: str) -> None:
    print(f"\n{BOLD}{text}{END}")


def note(text: str) -> None:
    print(f"{GREEN}  {text}{END}", flush=True)


def run(command: str, expected: int = 0) -> None:
    """Show a command, run it, and stop the demo if it does not end with the expected status."""
    print(f"{DIM}  $ {command}{END}", flush=True)
    words = shlex.split(command)
    started = time.perf_counter()
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    seconds = time.perf_counter() - started
    lines = [line for line in done.stdout.splitlines() if "using the lab" not in line]
    for line in lines:
        print(f"    {line}")
    status = "" if expected == 0 else f"exit status {done.returncode}, "
    print(f"{DIM}    ({status}{seconds:.2f} s){END}", flush=True)
    if done.returncode != expected:
        sys.exit(f"demo: that command should have ended with status {expected}, not {done.returncode}")


def run_on_terminal(command: str) -> None:
    """Like :func:`run`, on a terminal, with output as it comes."""
    print(f"{DIM}  $ {command}{END}", flush=True)
    width = min(shutil.get_terminal_size().columns, 120) - len("    ")
    settings = {**os.environ, "COLUMNS": str(width)} | ({} if sys.stdout.isatty() else {"NO_COLOR": "1"})
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        shlex.split(command), stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=settings
    )
    os.close(theirs)
    # When the other end is closed, Linux reports an error and macOS the end of the file.
    with open(ours, encoding="utf-8", errors="replace") as terminal, contextlib.suppress(OSError):
        for line in terminal:
            if "using the lab" not in line:
                print(f"    {line.rstrip()}", flush=True)
    if process.wait():
        sys.exit(f"demo: that command should have ended with status 0, not {process.returncode}")


def digest(path: str, offset: int = 0) -> str:
    with open(path, "rb") as file:
        file.seek(offset)
        return hashlib.file_digest(file, "sha256").hexdigest()


def payload_of(path: str) -> int:
    import sealwax

    return sealwax.inspect(path).header.preamble.payload_offset


def make_file(name: str) -> None:
    """Pack the installed packages: a large file that every machine has."""
    with tarfile.open(name, "w") as archive:
        archive.add(sysconfig.get_path("purelib"), "site-packages")


def python(source: str, names: dict[str, object], refused: str = "") -> None:
    """Show Python as if somebody typed it, run it, and stop the demo if it is not refused by the expected error."""
    source, ended = textwrap.dedent(source).strip(), ""
    for statement in ast.parse(source).body:
        lines = (ast.get_source_segment(source, statement) or "").splitlines()
        for number, line in enumerate(lines):
            print(f"{DIM}  {'>>>' if number == 0 else '...'} {line}{END}", flush=True)
        try:
            if isinstance(statement, ast.Expr):
                value = eval(compile(ast.Expression(statement.value), "demo", "eval"), names)
                if value is not None:
                    print(f"    {value!r}")
            else:
                exec(compile(ast.Module([statement], []), "demo", "exec"), names)
        except Exception as error:
            ended = type(error).__name__
            for line in textwrap.wrap(f"{ended}: {error}", 110):
                print(f"    {line}")
    if ended != refused:
        sys.exit(f"demo: that should have ended with {refused or 'no error'}, not {ended or 'without one'}")


def database_demo() -> None:
    names: dict[str, object] = {}

    heading("7. Seal a column of a database; its data keys are wrapped by KMS and kept in a table beside it")
    python(
        """
        import sqlite3, sealwax, sealwax.lab
        from sealwax.records import SqlKeys
        session = sealwax.lab.Lab("lab").session()
        database = sqlite3.connect("shop.db")
        table = database.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, card BLOB)")
        store = SqlKeys("sqlite:///shop.db")
        store.create_table()
        keyring = sealwax.KmsKeyring("alias/demo", session=session)
        records = sealwax.Records(keyring, store, scope={"app": "shop"})
        records.ensure(tenant="acme")
        card = records.field("users.card", row=int, tenant="acme")
        """,
        names,
    )
    started = time.perf_counter()
    python(
        """
        ids = range(1, 10_001)
        sealed = card.seal_many([f"4111 0000 {id:08}" for id in ids], rows=ids)
        inserted = database.executemany("INSERT INTO users VALUES (?, ?)", zip(ids, sealed))
        database.commit()
        """,
        names,
    )
    print(f"{DIM}    ({time.perf_counter() - started:.2f} s){END}")
    note("one KMS call, and none for the 10,000 values")
    python(
        """
        def card_of(id):
            (value,) = database.execute("SELECT card FROM users WHERE id = ?", [id]).fetchone()
            return card.open(value, row=id)
        card_of(7)
        """,
        names,
    )

    heading("8. Refused: a value that somebody copied to another row")
    python('copied = database.execute("UPDATE users SET card = ? WHERE id = 8", [sealed[6]])', names)
    python("card_of(8)", names, refused="RecordTamperedError")
    python("database.rollback()", names)
    note("row 7's value does not open in row 8")

    heading("9. Roll the data key, and re-wrap both generations under the second KMS key")
    python(
        """
        records.roll(tenant="acme").generation
        changed = database.execute("UPDATE users SET card = ? WHERE id = 7", [card.seal("4222", row=7)])
        database.commit()
        before = list(database.execute("SELECT * FROM users"))
        """,
        names,
    )
    scopes = "-c app=shop -c 'tenant=*' -c 'sealwax-use=records-*'"
    run(f"sealwax fleet plan --from alias/demo --to alias/demo2 {scopes} -o keys.plan sql+sqlite:///shop.db")
    run("sealwax fleet run keys.plan --apply")
    python(
        """
        assert list(database.execute("SELECT * FROM users")) == before
        keyring = sealwax.KmsKeyring("alias/demo2", session=session)
        records = sealwax.Records(keyring, store, scope={"app": "shop"})
        card = records.field("users.card", row=int, tenant="acme")
        card_of(7), card_of(8)
        """,
        names,
    )
    note("two wrapped data keys changed, and none of the 10,000 rows")

    heading("10. Shred the tenant's data keys: nothing of it can be opened any more")
    python('len(records.shred(tenant="acme"))', names)
    python("card_of(7)", names, refused="ShreddedError")
    note("done")


def main() -> None:
    folder = tempfile.mkdtemp(prefix="sealwax-demo-")
    os.chdir(folder)
    os.environ["SEALWAX_LAB"] = "lab"
    os.environ["PATH"] = f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"
    try:
        heading("1. Two KMS keys in an embedded KMS, without an AWS account")
        run("sealwax lab create-key --alias demo")
        run("sealwax lab create-key --alias demo2")

        heading("2. Encrypt a file under a data key that only KMS can unwrap")
        make_file("site-packages.tar")
        print(f"  site-packages.tar has {os.path.getsize('site-packages.tar'):,} bytes")
        run("sealwax encrypt -k alias/demo -c purpose=backup site-packages.tar")
        run("sealwax inspect site-packages.tar.swx")

        heading("3. Decrypt it and compare")
        run("sealwax decrypt -k alias/demo -c purpose=backup -o back.tar site-packages.tar.swx")
        run("cmp site-packages.tar back.tar")
        note("the same bytes")

        heading("4. Refused: another context, a flipped bit, another key")
        run("sealwax decrypt -k alias/demo -c purpose=other -o wrong.tar site-packages.tar.swx", expected=6)
        shutil.copy("site-packages.tar.swx", "flipped.swx")
        with open("flipped.swx", "r+b") as file:
            middle = os.path.getsize("flipped.swx") // 2
            file.seek(middle)
            byte = file.read(1)[0]
            file.seek(middle)
            file.write(bytes([byte ^ 1]))
        run("sealwax decrypt -k alias/demo -c purpose=backup -o wrong.tar flipped.swx", expected=5)
        run("sealwax decrypt -k alias/demo2 -c purpose=backup -o wrong.tar site-packages.tar.swx", expected=7)
        if Path("wrong.tar").exists():
            sys.exit("demo: a refused command left a file")
        note("nothing was written")

        heading("5. Re-wrap it under the second key: only the wrapped key changes")
        before = digest("site-packages.tar.swx", payload_of("site-packages.tar.swx"))
        run("sealwax rewrap -k alias/demo --to alias/demo2 -c purpose=backup site-packages.tar.swx")
        after = digest("site-packages.tar.swx", payload_of("site-packages.tar.swx"))
        print(f"  SHA-256 of the payload before  {before}")
        print(f"  SHA-256 of the payload after   {after}")
        if before != after:
            sys.exit("demo: the payload changed")
        note("no payload byte changed")
        run("sealwax decrypt -k alias/demo -c purpose=backup -o old.tar site-packages.tar.swx", expected=7)
        run("sealwax verify -k alias/demo2 -c purpose=backup site-packages.tar.swx")
        note("only the second key decrypts it now")

        heading("6. Test the second key: what must work, and what must be refused")
        run_on_terminal("sealwax prove -k alias/demo2 -c purpose=backup --to alias/demo")
        note("done")

        database_demo()
    finally:
        os.chdir("/")
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
