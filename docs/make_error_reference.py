"""Write docs/reference/errors.md, the text of `sealwax help`: python docs/make_error_reference.py"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from sealwax import errors
from sealwax._aws.meanings import CODES
from sealwax.cli import VERBS, status_of
from sealwax.cli.troubles import ERRORS, OF_EXTRAS, Trouble

PAGE = Path(__file__).with_name("reference") / "errors.md"
HEAD = """# Errors

What each error means, its usual causes, and the fix of each. Search this page for the error's name, for words of the
message, or for AWS's code: `AccessDeniedException`. In a terminal, `sealwax help AccessDeniedError` prints the same.

Every error is a `sealwax.SealwaxError`. The name is the class in Python, and `"error"` in the output of `--json`. The
[exit statuses](statuses.md) have a page of their own.

<!-- Written by docs/make_error_reference.py from the program; change the program, not this page. -->
"""


_VALUE = r"(?: (?:-{1,2}[a-z][\w-]*|[A-Z_]{3,}(?:\.\w+)?(?:=[A-Z]+)?))"
# Commands, options, variables, names of files and actions.
_CODE = (
    r"sealwax help errors",
    r"sealwax policy iam audit",
    r"sealwax fleet plan \.\.\. --force",
    r"ls -l",
    r"curl https://\S+",
    r"pip install 'sealwax\[\w+\]'",
    rf"sealwax (?:(?:fleet|keys|lab|policy|records|settings) [a-z-]+|{'|'.join(VERBS)}){_VALUE}*",
    rf"sealwax{_VALUE}+",
    r"aws (?:sso|login)(?: login)?",
    rf"aws configure(?: [a-z]+-[a-z]+)?{_VALUE}*(?: env)?",
    rf"aws [a-z]+ [a-z]+-[a-z-]+{_VALUE}*",
    r"pip install --upgrade sealwax",
    r"chmod go-w(?: DIR)?",
    r"--?[a-z][\w-]*(?: [A-Z]+(?:=[A-Z]+)?\b)?",
    r"[A-Z]+(?:_[A-Z0-9]+)+",
    r"kms:\w+(?::NAME)?",
    r"\.swx",
    r"sealwax\.toml",
)


def marked(text: str) -> str:
    """Return a sentence with its options, files and names in code, and links to the other errors."""
    link = r"[\1](#\1)" if text.startswith("See ") else r"see [\1](#\1)"
    text = re.sub(r"sealwax help (\w+Error)\b", link, text)
    text = re.sub(r"\(#(\w+)\)", lambda match: f"(#{match[1].lower()})", text)
    text = re.sub(r"\bdocs/([\w-]+)/([\w-]+)\.md", r"[\2](../\1/\2.md)", text).replace("(../reference/", "(")
    return re.sub(rf"(?<![\w`/\[-])({'|'.join(_CODE)})(?![\w`])", r"`\1`", text)


def beginning(name: str, status: int, trouble: Trouble) -> Iterator[str]:
    """Yield the heading of one error, what it means, and the words of its messages."""
    yield f"## {name}"
    yield ""
    yield f"{marked(trouble.what[0].upper() + trouble.what[1:])}. Exit status {status}."
    yield ""
    if trouble.messages:
        yield "Its messages say: " + "; ".join(f"“{message}”" for message in trouble.messages) + "."
        yield ""


def causes(trouble: Trouble) -> Iterator[str]:
    """Yield the lines of the usual causes and their fixes."""
    for cause, fix in trouble.causes:
        yield f"- **{marked(cause)}** {marked(fix)}"
    yield ""


def entry(kind: type[errors.SealwaxError], trouble: Trouble) -> Iterator[str]:
    """Yield the lines of one error."""
    yield from beginning(kind.__name__, status_of(kind.__new__(kind)), trouble)
    if codes := [code for code, meaning in CODES.items() if meaning.error is kind]:
        yield "Codes of AWS: " + ", ".join(f"`{code}`" for code in codes) + "."
        yield ""
    yield from causes(trouble)
    if below := [each.__name__ for each in ERRORS if each.__bases__[0] is kind]:
        yield "Errors of this kind: " + ", ".join(f"[{name}](#{name.lower()})" for name in below) + "."
        yield ""


def page() -> str:
    """Return docs/reference/errors.md as it should be."""
    lines = [line for kind, trouble in ERRORS.items() for line in entry(kind, trouble)]
    lines += [line for name, each in OF_EXTRAS.items() for line in (*beginning(name, 1, each), *causes(each))]
    return HEAD + "\n" + "\n".join(lines).rstrip("\n") + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
