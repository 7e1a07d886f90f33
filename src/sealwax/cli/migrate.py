"""sealwax migrate"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import click

from sealwax._core import context as ctx
from sealwax._core import moved, moving
from sealwax._core.envelope import inspect
from sealwax._core.foreign.rules import BOTO3_FERNET, ForeignRules
from sealwax._core.foreign.s3ec.fields import INSTRUCTION_SUFFIX
from sealwax._core.format.header import Preamble
from sealwax._core.moved import Moved
from sealwax._core.moving import Movable, Original
from sealwax._core.operations import Binding, Split, seal_from
from sealwax.cli import console, contents, dry, jobs, locations, objects, options, originals, outcomes, running
from sealwax.cli.kms import Keys
from sealwax.cli.move_journal import NAME, MemoryFile, open_journal
from sealwax.cli.outcomes import LeftAloneError
from sealwax.cli.sealing import Sealing
from sealwax.cli.state import current
from sealwax.cli.turns import Fields, Result
from sealwax.cli.work import STREAM, Work, on
from sealwax.errors import (
    FileError,
    HeaderError,
    NotAnEnvelopeError,
    SealwaxError,
    StoreError,
    UnsupportedEnvelopeError,
)

if TYPE_CHECKING:
    from sealwax._core.sealer import Sealer

NOT_MOVED: Final = "not migrated before"
_ENVELOPE: Final = jobs.Skip("already an envelope", "it is already an envelope")
_NOT_RECOGNIZED: Final = jobs.Skip("not recognized", "it is of no encrypted format that is known")
_REMOVED: Final = jobs.Skip("removed before", "an earlier run has removed it; its envelope is in its place")
_ANOTHER: Final = "move that file away, or write elsewhere with --into"
_AGAIN: Final = "move that envelope away to migrate it again, or write elsewhere with --into"


@click.command()
@options.targets("A KMS key for the envelopes; repeatable for a set of keys.")
@options.keys
@options.foreign
@options.context(stored=True)
@on("file", output="Write the envelopes below this folder or prefix.", dry_run=True, into=True)
@click.option(
    "--drop-signature",
    is_flag=True,
    help="Also migrate signed messages: their signature is verified, and the envelope has none.",
)
@click.option(
    "--remove",
    is_flag=True,
    help="Remove originals that an earlier run has migrated, once both were read again and are equal.",
)
@click.option(
    "--journal", metavar="FILE", default=NAME, show_default=True, help="The file that remembers what was migrated."
)
@objects.options(writes=True)
@options.loudness
def migrate(
    targets: tuple[str, ...],
    work: Work,
    keys: Keys,
    template: options.ContextTemplate,
    drop_signature: bool,
    remove: bool,
    journal: str,
) -> int:
    """Decrypt what other programs encrypted with KMS, and encrypt it as envelopes.

    Reads messages of the AWS Encryption SDK, objects of the S3 Encryption Client, ENVKMS01 files and, with --format,
    the file of the boto3 guide. NAME becomes NAME.swx next to it, or below --into, and NAME stays. With -r, envelopes
    and files of no known format are skipped; files of another known format, such as sops, fail: leave them out with
    --exclude. -k names the KMS keys that may decrypt, and needs kms:Decrypt; --to needs kms:GenerateDataKey, and
    kms:Encrypt for each further key.

    Run the same command again to resume: what the journal knows is skipped. Later, --remove removes the originals; it
    needs kms:Decrypt on both keys, and in S3 s3:DeleteObject.
    """
    if STREAM in work.sources or not work.sources:
        raise click.UsageError("name files, folders or s3:// places to migrate: a stream has no name and no original")
    if work.output is not None:
        options.refuse_into(work.output)
        work = replace(work, output=os.path.join(work.output, ""))
    sealing = Sealing(work, keys, template, lambda keys: _Sealers.of(keys, work, targets))
    todo = jobs.collect(work, output_name=lambda name: name + work.suffix)
    book = open_journal(journal, writes=not work.dry_run)
    current().ends.callback(book.close)
    mover = _Mover(work, book, sealing, drop_signature)
    do = mover.remove if remove else mover.migrate
    return running.run(work, sealing.announced(mover.without_removed(todo)), do, again=running.SAME_AGAIN)


@dataclass(frozen=True, slots=True)
class _Sealers:
    """What reads the originals, and what writes and reads their envelopes."""

    rules: ForeignRules
    originals: Sealer
    binding: Binding
    envelopes: Sealer

    @classmethod
    def of(cls, keys: Keys, work: Work, targets: tuple[str, ...]) -> _Sealers:
        rules = ForeignRules(frozenset(keys.legacy), frozenset(keys.unstored_context))
        new = replace(keys, names=targets, legacy=(), unstored_context=())
        # An original has no local pairs; those of the envelope are among its own.
        old = replace(keys, local_context=())
        envelopes, keyring = new.to_encrypt()
        binding = Binding(keyring, frozenset(keys.local_context))
        return cls(rules, old.to_decrypt(work.sources), binding, envelopes)


@dataclass(frozen=True, slots=True)
class _Mover:
    work: Work
    journal: MemoryFile
    sealing: Sealing[_Sealers]
    drop_signature: bool

    def without_removed(self, todo: Iterator[jobs.FileJob]) -> Iterator[jobs.FileJob]:
        """Yield the jobs; that a named file is missing is no problem if an earlier run has removed it."""
        for job in todo:
            gone = job.problem is not None and job.output is not None and self._removed(job)
            yield replace(job, problem=None) if gone else job

    def _removed(self, job: jobs.FileJob) -> Moved | None:
        """Return a source that a run has removed; None unless it is gone, and its envelope is in its place."""
        assert job.output is not None
        known = self.journal.find(job.source, job.output)
        if known is None or not known.removed:
            return None
        try:
            is_s3 = locations.is_s3(job.source)
            left = locations.there(job.source) is not None if is_s3 else os.path.lexists(job.source)
            fits = not left and self._envelope_id(outcomes.look(job.output)) == known.envelope_id
        except SealwaxError:
            return None  # the job itself says why
        return known if fits else None

    def _removed_with(self, job: jobs.FileJob) -> Moved | None:
        """Return the object that was removed, perhaps just now, if a job may be about its instruction file."""
        ending = INSTRUCTION_SUFFIX + self.work.suffix
        if not (job.below and job.output and locations.is_s3(job.source) and job.output.endswith(ending)):
            return None
        name = job.output.removesuffix(ending) + self.work.suffix
        return self._removed(replace(job, source=job.source.removesuffix(INSTRUCTION_SUFFIX), output=name))

    def migrate(self, job: jobs.FileJob) -> Result:
        """Migrate one source, unless that is done; say what became of it."""
        if not job.below and self._removed(job):
            return _REMOVED
        _, template, sealers = self.sealing.of(job)
        with contents.Source(job) as source:
            original = self._look(job, source, sealers)
            if isinstance(original, jobs.Skip):
                return original
            movable = original.movable
            expected = template.to_expect(job.relpath)
            moving.match(movable, expected, sealers.rules)
            split = moving.split(sealers.binding, moving.to_bind(movable, expected))
            if self._is_done(job, source, split):
                return {"outcome": "already migrated", "format": movable.format}
            self._refuse(movable, sealers)
            if self.work.dry_run:
                dry.check_output(job, source, job.output, force=False)
                return _fields("would be migrated", movable)
            context = moving.to_read(movable, expected)
            reader = sealers.originals.open_stream(original.message, context=context)
            with reader, moved.name_taken(_taken), contents.Output(job, source, force=False) as sink:
                with console.progress(job.source, source.size) as progress:
                    witness, _ = seal_from(
                        sealers.binding,
                        split,
                        reader,
                        sink,
                        lambda data: contents.progressed(progress, data),
                        witness=True,
                    )
                self.journal.add(self._moved(job, originals.mark_of(source), witness.hex()))
        return _fields("migrated", movable)

    def remove(self, job: jobs.FileJob) -> Result:
        """Remove one source that was migrated, once it and its envelope are known to hold the same."""
        if not job.below and (known := self._removed(job)):
            self._remove_rest(job.source + INSTRUCTION_SUFFIX, known)
            return _REMOVED
        if (known := self._removed_with(job)) and self._remove_rest(job.source, known):
            return jobs.INSTRUCTIONS
        try:
            return self._remove(job)
        except StoreError:
            if self._removed_with(job):
                return jobs.INSTRUCTIONS
            raise

    def _remove_rest(self, name: str, known: Moved) -> bool:
        """Remove an instruction file that a stopped run has left; return whether it is gone."""
        if not locations.is_s3(name) or self.work.dry_run:
            return False
        return originals.remove_instructions(name, known.mark.rpartition(" ")[2])

    def _remove(self, job: jobs.FileJob) -> Result:
        _, template, sealers = self.sealing.of(job)
        with contents.Source(job) as source:
            original = self._look(job, source, sealers)
            if isinstance(original, jobs.Skip):
                return original
            movable = original.movable
            expected = template.to_expect(job.relpath)
            moving.match(movable, expected, sealers.rules)
            split = moving.split(sealers.binding, moving.to_bind(movable, expected))
            if not self._is_done(job, source, split, removes=True):
                raise LeftAloneError(NOT_MOVED, "it has no envelope yet; migrate it first, without --remove")
            self._refuse(movable, sealers)
            if self.work.dry_run:
                return _fields("would be removed", movable)
            assert job.output is not None
            envelope = locations.opened(job.output)
            if not original.is_same(expected, sealers.originals, envelope, sealers.envelopes):
                why = f"'{console.shown(job.output)}' holds other data; nothing was removed"
                raise LeftAloneError(outcomes.IN_THE_WAY, why)
            entry = self._moved(job, originals.mark_of(source), self._known(job).witness)
            # Before it is gone: a run that is killed in between knows what it has removed.
            self.journal.add(replace(entry, removed=True))
            originals.remove(job, source)
        return _fields("removed", movable)

    @staticmethod
    def _look(job: jobs.FileJob, source: contents.Source, sealers: _Sealers) -> Original | jobs.Skip:
        """Return what a source is, or why it is left as it is."""
        if not source.regular:
            raise FileError("it is not a regular file, so nothing could be compared with it later; name a file")
        try:
            return moving.look(source.binary, sealers.rules) or _ENVELOPE
        except NotAnEnvelopeError as error:
            foreign = error.foreign
            if job.below and foreign is None:
                return _NOT_RECOGNIZED
            if foreign is not None and foreign.format == BOTO3_FERNET:
                raise UnsupportedEnvelopeError(
                    "it looks like a file of the boto3 guide, which nothing marks for certain; to read it as one, use "
                    f"--format {BOTO3_FERNET}"
                ) from None
            if foreign is None:
                raise NotAnEnvelopeError(
                    "it is of no format that is migrated: neither a message of the AWS Encryption SDK, nor an object "
                    "of the S3 Encryption Client, nor an ENVKMS01 file"
                ) from None
            raise

    def _refuse(self, movable: Movable, sealers: _Sealers) -> None:
        """Refuse what the options do not allow, before KMS is asked."""
        refusal = moving.refusal(movable, sealers.rules, drop_signature=self.drop_signature)
        if refusal is not None:
            allow = "--drop-signature" if refusal.signature else f"--allow-legacy {movable.format}"
            doing = "migrate it without its signature" if refusal.signature else "read it"
            raise UnsupportedEnvelopeError(f"{refusal.why}; to {doing}, use {allow}")

    def _is_done(self, job: jobs.FileJob, source: contents.Source, split: Split, *, removes: bool = False) -> bool:
        """Whether the journal and the target say that a source was migrated, and bound to this context.

        Raises:
            LeftAloneError: the target is another file or has another context, or the source has changed since.
        """
        assert job.output is not None
        there = outcomes.look(job.output)
        if there is None:
            return False
        known = self.journal.find(job.source, job.output)
        preamble = self._preamble(there)
        envelope_id = b"" if preamble is None else preamble.envelope_id
        conflict = moved.conflict(known, envelope_id, originals.mark_of(source), job.output, "the journal")
        if conflict is not None:
            kind = outcomes.CHANGED if conflict.changed else outcomes.IN_THE_WAY
            advice = "it was not removed" if removes else _AGAIN if conflict.changed else _ANOTHER
            raise LeftAloneError(kind, f"{conflict.why}; {advice}")
        kms, local = split
        if preamble is not None and (preamble.kms_context, preamble.local_pairs) != (ctx.encode(kms), len(local)):
            why = f"'{console.shown(job.output)}' is bound to another context (`sealwax inspect` shows it)"
            raise LeftAloneError(outcomes.OTHER_CONTEXT, f"{why}; {'it was not removed' if removes else _AGAIN}")
        return True

    def _envelope_id(self, there: outcomes.Existing | None) -> bytes:
        """Return the id of the envelope at a place; b"" if there is none."""
        preamble = None if there is None else self._preamble(there)
        return b"" if preamble is None else preamble.envelope_id

    @staticmethod
    def _preamble(there: outcomes.Existing) -> Preamble | None:
        """Return what an envelope is bound to, and its id; None if there is something else."""
        try:
            with there.open() as file:
                return inspect(file).header.preamble
        except HeaderError:
            return None

    def _known(self, job: jobs.FileJob) -> Moved:
        known = None if job.output is None else self.journal.find(job.source, job.output)
        assert known is not None
        return known

    @staticmethod
    def _moved(job: jobs.FileJob, mark: str, witness: str) -> Moved:
        assert job.output is not None
        return Moved(locations.real(job.source), locations.real(job.output), mark, witness)


def _fields(outcome: str, movable: Movable) -> Fields:
    notes = {"note": "; ".join(movable.notes)} if movable.notes and outcome == "migrated" else {}
    about = {"format": movable.format, "signed": movable.signed, "committing": movable.committing}
    return {"outcome": outcome, **about, **notes}


def _taken(why: str) -> LeftAloneError:
    return LeftAloneError(outcomes.IN_THE_WAY, f"{why}; {_ANOTHER}")
