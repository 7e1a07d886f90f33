"""What Lambda does with a function, as a program: ``lambda_runtime HANDLER ANSWERS CUT``.

Events come in as lines of JSON, one after the other to one process; standard output is the function's log. What it
answers, or Lambda's account of its error, is a line of the file ANSWERS. Its time is up once a file CUT is there.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path


class Context:
    function_name = "rotation"

    def __init__(self, cut: Path) -> None:
        self._cut = cut

    def get_remaining_time_in_millis(self) -> int:
        return 1000 if self._cut.exists() else 900_000


def main(name: str, answers: str, cut: str) -> None:
    module, _, function = name.rpartition(".")
    handler = getattr(importlib.import_module(module), function)
    with open(answers, "a", encoding="utf-8") as file:
        for line in sys.stdin:
            try:
                answer = {"answer": handler(json.loads(line), Context(Path(cut)))}
            except Exception as error:  # as Lambda does with whatever a function raises
                answer = {"errorType": type(error).__name__, "errorMessage": str(error)}
            file.write(json.dumps(answer) + "\n")
            file.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
