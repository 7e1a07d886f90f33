"""sealwax completion"""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import get_completion_class

from sealwax.cli import console, options

# The command that installs each shell's script.
_INSTALL: Final = {
    "bash": "sealwax completion bash > ~/.local/share/bash-completion/completions/sealwax",
    "zsh": "sealwax completion zsh > ~/.zfunc/_sealwax  # ~/.zfunc must be in $fpath before compinit runs",
    "fish": "sealwax completion fish > ~/.config/fish/completions/sealwax.fish",
}


@click.command()
@click.argument("shell", type=click.Choice(list(_INSTALL)))
@options.loudness
def completion(shell: str) -> None:
    """Print a script that completes verbs, options, files, and the aliases of keys in a shell.

    After -k and --to, the aliases of your KMS keys are offered (kms:ListAliases), after --profile your AWS profiles,
    after --region the Regions. This takes at most a second, prompts for nothing, and runs no credential_process.
    Aliases are kept for five minutes, in ~/.cache/sealwax.
    """
    from sealwax.cli import root

    kind = get_completion_class(shell)
    assert kind is not None  # click knows every shell that _INSTALL lists
    console.print(kind(root, {}, "sealwax", "_SEALWAX_COMPLETE").source())
    console.info(f"to install it: {_INSTALL[shell]}")
