"""The command line: parse, make one library call, print.

Exit status: 0 all that was asked is done; 1 anything not named here; 2 usage; 3 findings; 4 the header is no
envelope's, or damaged; 5 the payload does not authenticate; 6 the context is missing or different; 7 the KMS key cannot
be used; 8 partly done; 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Final, NoReturn

import click

from sealwax import __version__, errors
from sealwax._core import disk
from sealwax.cli import console, sessions

# A verb is imported when it is asked for: `sealwax inspect` must not wait for boto3.
VERBS: Final = {
    "encrypt": "Encrypt files, folders or a stream under a KMS key.",
    "decrypt": "Decrypt envelopes, or a range of one.",
    "verify": "Authenticate envelopes and write nothing.",
    "inspect": "Show what an envelope says of itself, without KMS.",
    "rewrap": "Move envelopes to another KMS key; the data is not touched.",
    "reencrypt": "Encrypt envelopes anew, under a new data key.",
    "fleet": "Rotate the keys of many envelopes: plan, run, verify.",
    "prove": "Show, with evidence, that a KMS key protects what it should.",
    "audit": "Find what is set wrong with KMS keys, and how to mend it.",
    "keys": "List KMS keys, rotate and retire them.",
    "policy": "Write policies that give no more than is named, and explain what policies say.",
    "completion": "Print the completion script for a shell.",
    "lab": "An embedded KMS to try, test and rehearse with.",
}

STATUS: Final[tuple[tuple[type[Exception], int], ...]] = (
    (errors.HeaderError, 4),
    (errors.PayloadError, 5),
    (errors.ContextError, 6),
    (errors.KmsError, 7),
)
PARTLY_DONE: Final = 8
# More objects than boto3 and the lab make when they are imported, and a few dozen megabytes of garbage at most.
_OBJECTS_BEFORE_COLLECTION: Final = 100_000


def status_of(error: Exception) -> int:
    """Return the exit status for an error."""
    return next((status for kind, status in STATUS if isinstance(error, kind)), 1)


class _Verbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in VERBS:
            return None
        command: click.Command = getattr(importlib.import_module(f"sealwax.cli.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.command(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "-V", "--version", message="%(prog)s %(version)s")
def root() -> None:
    """Envelope encryption with AWS KMS.

    Data is encrypted here, with AES-256-GCM, under a data key that KMS makes; only KMS can open the wrapped data key
    that is stored beside the data, and only for the context it was bound to.
    """


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    sessions.forget()
    console.begin()
    try:
        result = root.main(args=arguments, prog_name="sealwax", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.ClickException as error:
        said = io.StringIO()  # click would fail where nothing can be written
        error.show(said)
        if said.getvalue():
            console.explain(said.getvalue().rstrip("\n"))
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        console.say("interrupted")
        return 130
    except BrokenPipeError:
        # Who reads the output has gone; there is nobody to tell.
        console.drop_output()
        return 1
    except errors.SealwaxError as error:
        console.complain(error)
        return status_of(error)
    except OSError as error:
        console.drop_output()
        about = f": {console.shown(os.fsdecode(error.filename))}" if isinstance(error.filename, str | bytes) else ""
        console.say(f"{disk.reason(error)}{about}")
        return 1
    except Exception as error:
        if console.verbose:
            console.explain(traceback.format_exc().rstrip("\n"))
        console.say(f"unexpected {type(error).__name__}; this is a mistake in sealwax. Run it with -v to see where.")
        return 1


def _terminate(signal_number: int, _: object) -> NoReturn:
    # As an exception, so that half-written output is removed on the way out.
    raise SystemExit(128 + signal_number)


def _occupy_standard_streams() -> None:
    """See that no file which is opened later comes to stand where a closed standard stream was."""
    for descriptor, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            # In the wrong direction for 0 and 1: using what was closed fails, and is not lost in silence.
            os.open(os.devnull, mode)
    if sys.stderr is None:
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), encoding="utf-8", write_through=True)


def _collect_seldom() -> None:
    """Leave the garbage collector out of the start and the end, where it looks at everything and finds nothing.

    What holds keys or files is closed and wiped by name, and waits for no collector.
    """
    gc.set_threshold(_OBJECTS_BEFORE_COLLECTION)
    atexit.register(gc.freeze)  # first, so it runs last


def main() -> NoReturn:
    """The program."""
    _collect_seldom()
    _occupy_standard_streams()
    console.StandardInput.reserve()
    for stop in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(stop) != signal.SIG_IGN:  # nohup
            signal.signal(stop, _terminate)
    sys.exit(run())
