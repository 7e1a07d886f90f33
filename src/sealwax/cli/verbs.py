"""How a verb looks in its help, whatever its own file says: options in groups, examples, suggestions, completion.

The verbs are plain commands of click. ``adopted`` turns each into a ``Verb`` when it is looked up, so that none has to
name a class, and none is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import click

from sealwax._text import printable
from sealwax.cli import console, offers
from sealwax.cli.examples import EXAMPLES

WHAT: Final = "What"
OUTPUT: Final = "Output"
THE_LAB: Final = "The lab"
# The group of each option, by its long name: the same in every verb, and in this order.
_GROUPS: Final[Mapping[str, str]] = {
    WHAT: """--recursive --include --exclude --follow-links --suffix --armor --detached --range --dry-run --apply
        --verify --older-than --add-region --reencrypt --also --move --digest --stale --decrypt --list --ask-kms
        --versions --all --facts --events --envelopes-under --fleet-plan --trust-account --expect-alias --baseline
        --max-age --allow-changes --records --denied-profile --denied-role
        --scan --delete-after --every --now
        --admin --encrypt --rotate-from --rotate-to --grant --search-records --rotate-records
        --rotate-indexes
        --grantee --operation --retiring --for
        --key-policy --identity-policy --grants --given
        --alias --description --role --account --policy --port --host --allow-host --tls-cert --tls-key --upstream
        --throttle --error --latency --down --reset --quota --eventual --clear --seed
        --fields --models --data --settle --rows --clean-up""",
    "Keys and context": """--key --from --to --context --context-name --context-file --no-context --local-context
        --accept-stored-context --drop-signature --allow-legacy --unstored-context --share-key --as --store
        --confirm --no-settings""",
    "Where it goes": """--output --into --remove --update --force --sse --sse-kms-key-id --storage-class --tag
        --requester-pays --journal --results --save-facts --allow-disk""",
    "Speed and limits": "--workers --rate --throttle-lag --engine --max-duration --max-error-rate",
    "AWS": "--profile --region --endpoint-url --lab",
    THE_LAB: "--lab-key-file",
    OUTPUT: """--json --format --report --report-format --fail-on --allow-incomplete --wide --metrics --quiet
        --verbose --debug --version --help""",
}
_GROUP_OF: Final = {name: group for group, names in _GROUPS.items() for name in names.split()}
# Where a lab is managed, its folder is no stand-in for AWS, and a Region is a fact of its keys.
_GROUP_IN_LAB: Final = {"--lab": THE_LAB, "--region": WHAT}
# What is read, and not how a report is written.
_GROUP_OF_READERS: Final = {"--format": "Keys and context"}
_READERS: Final = frozenset(f"sealwax {verb}" for verb in ("decrypt", "verify", "migrate"))
_INDENT: Final = 2
# The longest names of options that their help starts beside, not below.
_WIDEST_NAMES: Final = 26
# What click says of a value, with the names of its types, and what we say.
_NO_NUMBER: Final[Mapping[str, str]] = {
    f"is not a valid {name}.": words
    for words, names in {
        "is not a whole number.": (click.INT.name, click.IntRange.name),
        "is not a number.": (click.FLOAT.name, click.FloatRange.name),
    }.items()
    for name in names
}
# Of difflib's ratio: a letter or two of a short word are wrong.
_ALIKE: Final = 0.7


def group_of(path: str, option: click.Option) -> str | None:
    """Return the group of an option of the verb with this path ("sealwax lab keys"); None if it is in no table."""
    names = [name for name in option.opts if name.startswith("--")]
    in_lab = _GROUP_IN_LAB if path.startswith("sealwax lab ") else {}
    special = _GROUP_OF_READERS if path in _READERS else in_lab
    return next((special.get(name) or _GROUP_OF[name] for name in names if name in _GROUP_OF), None)


def grouped(command: click.Command, context: click.Context) -> dict[str, list[click.Option]]:
    """Return the options of a command by the titles of their groups; all in "Options" if there is only one group."""
    options = [each for each in command.get_params(context) if isinstance(each, click.Option) and not each.hidden]
    groups: dict[str, list[click.Option]] = {title: [] for title in _GROUPS}
    for option in options:
        groups[group_of(context.command_path, option) or WHAT].append(option)
    groups = {title: members for title, members in groups.items() if members}
    return groups if len(groups) > 1 else {"Options": options}


def names_of(option: click.Option) -> tuple[str, str]:
    """Return the names of an option, and what stands for its value ("" for a flag)."""
    return ", ".join((*option.opts, *option.secondary_opts)), _value_of(option)


def _value_of(option: click.Option) -> str:
    if option.is_flag or option.count:
        return ""
    if option.metavar:
        return option.metavar
    if isinstance(option.type, click.Choice):
        return "|".join(map(str, option.type.choices))
    return "N" if option.type.name.startswith(("integer", "float")) else option.type.name.upper()


def meaning_of(option: click.Option) -> str:
    """Return the help of an option, with its range, default and variable."""
    notes = [option.help or ""]
    low, high = getattr(option.type, "min", None), getattr(option.type, "max", None)
    if low is not None and high is not None:
        notes.append(f"From {low} to {high}.")
    variable = option.envvar if option.show_envvar else None
    if option.required:
        notes.append(f"Required, here or in {variable}." if variable else "Required.")
    if option.show_default and not option.is_flag:
        notes.append(f"Default: {option.default}.")
    elif variable and not option.required:
        notes.append(f"Default: {variable}.")
    return " ".join(filter(None, notes))


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return "; did you mean ...?" with the choice most like a mistyped word; "" if none is."""
    import difflib  # for mistakes only

    plain = word.lower().lstrip("-")
    by_name = {choice.lower().lstrip("-"): choice for choice in choices}
    longer = [name for name in by_name if len(plain) > 1 and name.startswith(plain)]
    close = longer or difflib.get_close_matches(plain, by_name, n=1, cutoff=_ALIKE)
    return f"; did you mean {by_name[close[0]]}?" if close else ""


class Choice(click.Choice):  # type: ignore[type-arg]  # no generic in older releases
    """A choice that suggests what a mistyped value should have been."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            hint = did_you_mean(str(value), map(str, self.choices))
            if not hint:
                raise
            raise click.BadParameter(error.message.removesuffix(".") + hint, error.ctx, error.param) from None


class Verb(click.Command):
    """A command with its options in groups, examples, and suggestions for mistyped options."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_options(self, ctx, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(ctx, formatter)
        super().format_epilog(ctx, formatter)

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        return _printing_help(super().get_help_option(ctx))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return _parsed(self, ctx, lambda: super(Verb, self).parse_args(ctx, args))


class VerbGroup(click.Group):
    """A group of verbs; it suggests one for a mistyped name."""

    command_class = Verb
    group_class = type

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*click.Command.collect_usage_pieces(self, ctx), "VERB ..."]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.format_commands(ctx, formatter)
        write_options(self, ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(self.summaries(ctx)))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(ctx, formatter)
        super().format_epilog(ctx, formatter)

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        return _printing_help(super().get_help_option(ctx))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return _parsed(self, ctx, lambda: super(VerbGroup, self).parse_args(ctx, args))

    def summaries(self, ctx: click.Context) -> Iterator[tuple[str, str]]:
        """Yield each verb of the group with one sentence about it."""
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            assert command is not None  # it is in the list
            yield name, command.get_short_help_str(limit=1000)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        command = super().get_command(ctx, cmd_name)
        return None if command is None else adopted(command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if not ctx.resilient_parsing and self.get_command(ctx, args[0]) is None:
            raise click.UsageError(self.unknown(ctx, args[0]), ctx)
        return super().resolve_command(ctx, args)

    def unknown(self, ctx: click.Context, name: str) -> str:
        """Return what to say of a verb that does not exist."""
        below = ctx.command_path.partition(" ")[2]
        where = f" in 'sealwax {below}'" if below else ""
        hint = did_you_mean(name, self.list_commands(ctx))
        if not hint and not below:
            # The last word of a verb in a group: "rotate" for "keys rotate".
            hint = next((f"; did you mean {path}?" for path in EXAMPLES if path.endswith(f" {name}")), "")
        listing = "sealwax help" if not below else f"sealwax help {below}"
        return f"no such verb '{printable(name)}'{where}{hint or f'; `{listing}` lists the verbs'}"


def adopted(command: click.Command) -> click.Command:
    """Return a command as a verb: with everything it has, and the help of this module."""
    if isinstance(command, Verb | VerbGroup):
        verb: click.Command = command
    else:
        assert type(command) in (click.Command, click.Group), "a subclass must be one of Verb or VerbGroup"
        kind = VerbGroup if isinstance(command, click.Group) else Verb
        verb = kind.__new__(kind)
        vars(verb).update(vars(command))
    for parameter in verb.params:
        if type(parameter.type) is click.Choice:
            parameter.type = Choice(parameter.type.choices, parameter.type.case_sensitive)
        elif offered := offers.type_for(parameter):
            parameter.type = offered
    return verb


def printed_at_once(text: Callable[[click.Context], str]) -> Callable[[click.Context, click.Parameter, bool], None]:
    """Return the callback of an option that prints a text and ends; click's own says nothing of standard output."""

    def show(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        if value and not ctx.resilient_parsing:
            console.print(text(ctx))
            ctx.exit()

    return show


def _printing_help(option: click.Option | None) -> click.Option | None:
    if option is not None:
        option.callback = printed_at_once(click.Context.get_help)
    return option


def _parsed(command: click.Command, ctx: click.Context, parse: Callable[[], list[str]]) -> list[str]:
    """Parse; name the option that a mistyped one should have been, and say what is no number in our words."""
    try:
        return parse()
    except click.BadParameter as error:
        for said, words in _NO_NUMBER.items():
            if error.message.endswith(said):
                message = error.message.removesuffix(said) + words
                raise click.BadParameter(message, error.ctx, error.param, error.param_hint) from None
        raise
    except click.NoSuchOption as error:
        names = [name for option in command.get_params(ctx) if isinstance(option, click.Option) for name in option.opts]
        hint = did_you_mean(error.option_name, [name for name in names if name.startswith("--")])
        raise click.UsageError(f"no such option '{printable(error.option_name)}'{hint}", ctx) from None


def write_options(command: click.Command, ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """Write the options of a command, group by group, in one column."""
    groups = {
        title: [(" ".join(filter(None, names_of(option))), meaning_of(option)) for option in options]
        for title, options in grouped(command, ctx).items()
    }
    beside = [len(names) for rows in groups.values() for names, _ in rows if len(names) <= _WIDEST_NAMES]
    width = max(beside, default=0)
    for title, rows in groups.items():
        with formatter.section(title):
            formatter.write_dl([(names.ljust(width), text) for names, text in rows], col_max=width)


def write_examples(ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """Write the examples of a verb. They are not wrapped, so that they can be pasted."""
    lines = example_lines(ctx.command_path)
    if lines:
        formatter.write_paragraph()
        formatter.write("Examples:\n")
        formatter.write("".join(f"{'':{_INDENT}}{line}\n" for line in lines))


def example_lines(path: str) -> Sequence[str]:
    """Return the examples of the verb with this path: comments that begin with "#", and the commands below them."""
    return EXAMPLES.get(path.partition(" ")[2], "").strip().splitlines()
