"""What each exit status and each error means, what usually causes it, and the fix.

`sealwax help 7`, `sealwax help AccessDeniedError` and the manual pages take their text from here; README.md and
docs/reference/statuses.md are checked against it, and docs/reference/errors.md is written from it. It is long because
it is a table, with an entry for every error.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sealwax import errors


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that went wrong.

    Attributes:
        what: what it means, as a clause.
        causes: pairs of a usual cause and its fix.
        messages: words of the messages that tell of it, by which people search.
    """

    what: str
    causes: tuple[tuple[str, str], ...]
    messages: tuple[str, ...] = ()


def _trouble(what: str, causes: str = "", *messages: str) -> Trouble:
    """Return a trouble, its causes written one below the other with the fix indented below each."""
    pairs: list[tuple[str, str]] = []
    for line in inspect.cleandoc(causes).splitlines():
        if line.startswith(" "):
            cause, fix = pairs.pop()
            pairs.append((cause, f"{fix} {line.strip()}".strip()))
        else:
            pairs.append((line, ""))
    return Trouble(what, tuple(pairs), messages)


STATUSES: Final[Mapping[int, Trouble]] = {
    0: _trouble("everything was done"),
    1: _trouble(
        "any failure not listed here: a file that cannot be read or written, a place that does not exist or has no "
        "envelope",
        """
        The name is mistyped, or the volume is not mounted.
            Check the name in the last line of the output.
        The output already exists.
            Name another file with -o, or overwrite it with --force.
        The folder has no envelope whose name ends with .swx.
            Check the folder, or name the suffix with --suffix.
        """,
    ),
    2: _trouble(
        "wrong usage, or a settings file that is refused",
        """
        An option is mistyped or does not exist.
            See sealwax help VERB.
        No KMS key was named.
            Name it with -k, in SEALWAX_KEY or in sealwax.toml.
        Options exclude each other, such as --lab and --profile.
            Remove one of the options that the message names.
        """,
    ),
    3: _trouble(
        "findings: a check of `prove` failed, `audit` found what `--fail-on` names, a key to retire is still in use, "
        "or a line of `doctor` needs fixing",
        """
        `audit` found a misconfigured key.
            Apply the fix that the finding names; accept it with --baseline if it is intended.
        `prove` shows that the key does not protect what it should.
            See docs/how-to/verification.md for the check that failed.
        `keys retire` found envelopes under the key.
            Move them with sealwax fleet, and run the command again.
        `doctor` found something that needs fixing.
            Each line that needs fixing says how.
        """,
    ),
    4: _trouble(
        "not an envelope or a record, or its header is damaged",
        """
        It is a file of another kind.
            The message names the format if it is known, and says whether an option reads it. If none does, use the
            program that wrote it.
        The envelope is one line of text.
            Add --armor.
        The header was overwritten or cut off.
            Restore the file from a backup.
        """,
    ),
    5: _trouble(
        "the payload does not authenticate: modified, truncated, or the wrong data key",
        """
        A copy or a download ended early.
            Copy the file again, and compare its size with that of the original.
        A local pair has a different value than at encryption.
            Check the -c values of the pairs that --local-context names.
        A program, a person or a faulty disk changed the data.
            Restore the file from a backup, and find out what wrote to it.
        """,
    ),
    6: _trouble(
        "the context is missing or different",
        """
        A pair of the context was left out or mistyped.
            sealwax inspect FILE shows the context; give each pair with -c.
        The file was moved or renamed, and is bound to its path.
            Give the path that it was encrypted under.
        The data has local pairs, which are not stored.
            Give them with -c and --local-context NAME.
        """,
    ),
    7: _trouble(
        "the KMS key cannot be used (denied, disabled, unreachable), there are no credentials for KMS or S3, or a "
        "scope was shredded",
        """
        The caller lacks a permission.
            Allow it in the key policy, an IAM policy or a grant: sealwax help AccessDeniedError.
        There are no credentials, or they have expired.
            Sign in, or select a profile: sealwax help CredentialsError.
        The key is in another Region or account, or disabled.
            Check -k, --region and the state: sealwax keys list.
        """,
    ),
    8: _trouble(
        "partly done, or something could not be read, listed or written; the output names what is missing and what "
        "to do",
        """
        Some of several files failed.
            Fix what the message of each says, and run the same command again to resume.
        A file or folder cannot be read.
            Check its permissions, or run the command as its owner.
        A lookup of `audit` was denied.
            Allow what sealwax policy iam audit writes, or add --allow-incomplete.
        """,
    ),
    129: _trouble(
        "the terminal was closed",
        """
        The SSH connection or the terminal window was closed while the command ran.
            Run the same command again: with -r, finished files are skipped; no file is half written.
        A long run was started in a terminal that somebody then left.
            Start it with nohup, in tmux or as a service.
        A service manager sent SIGHUP, to reload the program.
            Do not reload it: it reads its settings once. Run the same command again.
        """,
    ),
    130: _trouble(
        "interrupted",
        """
        Somebody pressed Ctrl-C.
            Run the same command again: with -r, finished files are skipped; no file is half written.
        A scheduler sent SIGINT.
            Raise its time limit, or limit a fleet's run with --max-duration.
        A terminal sent SIGINT to all programs of a pipeline.
            Check the output of the others, and run the pipeline again.
        """,
    ),
    143: _trouble(
        "terminated",
        """
        A scheduler or an orchestrator stopped the process.
            Raise its time limit, or limit a fleet's run with --max-duration.
        The machine was shut down.
            Run the same command again: with -r, finished files are skipped; no file is half written.
        Somebody ended it with kill.
            Run the same command again.
        """,
    ),
}

ERRORS: Final[Mapping[type[errors.SealwaxError], Trouble]] = {
    errors.SealwaxError: _trouble(
        "the base class of all errors; only its subclasses are raised",
        """
        A program catches it to catch every error of sealwax.
            Print the error's class and message: the message says what to do.
        A log shows only this name.
            Look for the class of the error, or run the program again.
        You want to know which errors there are.
            sealwax help errors lists them.
        """,
    ),
    errors.ContextError: _trouble(
        "the encryption context is missing, different or unusable",
        """
        A pair was left out, or has a different value.
            sealwax inspect FILE shows the stored pairs; give each with -c NAME=VALUE.
        No context was given.
            Give it with -c; use --accept-stored-context to trust the one in the envelope, or --no-context.
        A pair is not stored: it was encrypted as a local pair.
            Give its value with -c, and its name with --local-context.
        """,
        "no context was given",
        "is bound to a different value of",
    ),
    errors.HeaderError: _trouble(
        "the bytes are not an envelope, or its header is damaged",
        """
        It is a file of another kind.
            Check its name; sealwax help NotAnEnvelopeError.
        The header was overwritten or cut off.
            Restore the file from a backup; sealwax help DamagedHeaderError.
        A newer sealwax wrote it.
            Update sealwax; sealwax help UnsupportedEnvelopeError.
        """,
    ),
    errors.NotAnEnvelopeError: _trouble(
        "the bytes do not begin like an envelope",
        """
        The file is plaintext, or another program encrypted it.
            The message names the format if it is known, and says whether an option reads it. If none does, use the
            program that wrote it.
        The envelope is one line of text (it begins with swx1:), or a message of the AWS Encryption SDK is in base64.
            Add --armor.
        It is the payload of a detached envelope.
            Name the file with its header with --detached.
        """,
        "this is not a sealwax envelope",
        "this is not an envelope in its text form",
    ),
    errors.UnsupportedEnvelopeError: _trouble(
        "an envelope of a version or suite that this release does not support",
        """
        A newer release of sealwax wrote it.
            Update sealwax: pip install --upgrade sealwax; sealwax --version shows which one runs.
        Another program wrote it in a format that does not commit to its data key, or with a signature.
            Read it with --allow-legacy and the name in the message; migrate a signed one with --drop-signature.
        The version or suite byte was overwritten.
            Restore the file from a backup.
        """,
        "does not commit to",
        "which cannot be re-wrapped",
    ),
    errors.DamagedHeaderError: _trouble(
        "an envelope whose header breaks a rule of the format, so that its wrapped keys cannot be read",
        """
        The file is cut off: a copy or a download ended early.
            Compare its size and checksum with those of the original; copy it again, or use a backup.
        A disk or an editor changed bytes of it.
            Restore the file from a backup.
        A whole envelope and a detached header were mixed up.
            Name the payload as FILE, and the file with the header with --detached.
        """,
        "preamble is damaged",
        "the rest of the file is missing",
        "this is a whole envelope, not a detached header",
    ),
    errors.PayloadError: _trouble(
        "the payload does not authenticate",
        """
        The payload was changed or cut off.
            Restore it; sealwax help TamperedError.
        It belongs to another header or local context.
            Check both; sealwax help CommitmentError.
        The wrapped key does not hold a data key.
            Restore the file; sealwax help DataKeyError.
        """,
    ),
    errors.CommitmentError: _trouble(
        "the data key, the context or the header does not belong to this payload; nothing was released",
        """
        A local pair has a different value than at encryption.
            Check the -c values of the pairs that --local-context names.
        The header named by --detached and the payload belong to different envelopes.
            Name the two files that were written together.
        The file was altered, or combined from two envelopes.
            Restore it from a backup, and find out what wrote to it.
        """,
        "does not belong to this payload",
        "does not belong to this object",
    ),
    errors.DataKeyError: _trouble(
        "KMS decrypted the wrapped key, but to something other than a data key of 32 bytes",
        """
        The envelope was made by hand, or by another program.
            Encrypt the data again with sealwax encrypt.
        Somebody put another KMS ciphertext into the header.
            Restore the file from a backup, and find out who wrote to it.
        An endpoint that is not AWS answers for KMS.
            Check --endpoint-url and AWS_ENDPOINT_URL_KMS.
        """,
        "did not decrypt a data key",
        "the wrapped key holds something else",
    ),
    errors.TamperedError: _trouble(
        "a part of the payload is altered, missing or cut off, or bytes follow its end; nothing from there on was "
        "released",
        """
        A copy or a download ended early.
            Compare its size and checksum with those of the original; copy it again, or use a backup.
        Bytes were changed by a disk, by an editor, or by a transfer in text mode.
            Restore the file from a backup.
        Something was appended to the file.
            Restore it from a backup; give each envelope a file of its own.
        """,
        "the payload does not authenticate",
        "it was altered, cut off or extended",
    ),
    errors.KmsError: _trouble(
        "a KMS key could not be used",
        """
        The caller may not use the key.
            Allow it; sealwax help AccessDeniedError.
        There are no valid credentials.
            Sign in; sealwax help CredentialsError.
        The key is disabled, missing or unreachable.
            Check it with sealwax keys list, and the Region with --region.
        """,
    ),
    errors.KeyNotAllowedError: _trouble(
        "the envelope is not wrapped under any key of -k; KMS was not called",
        """
        The envelope is under another key than you think.
            sealwax inspect FILE shows its keys; if you trust one, name it with -k.
        It was moved to a new key.
            Name the new key with -k; to keep the old one too, repeat -k.
        An alias or key ID of -k was looked up in another Region.
            Name the key by its ARN, or the Region of the envelope's key with --region.
        """,
        "which is not among the allowed keys",
        "no KMS key wrapped the message's data key",
    ),
    errors.AccessDeniedError: _trouble(
        "the caller lacks a permission, or a policy denies it",
        """
        No policy allows the caller to use the key.
            Add the statement that sealwax policy iam or sealwax policy key writes; a key of another account needs both
            its key policy and an IAM policy.
        A policy or a grant requires another context.
            Compare kms:EncryptionContext in the policy with your -c; sealwax policy explain shows which statement
            decides.
        You are signed in as somebody else, or in another account.
            aws sts get-caller-identity shows who you are; select a profile with --profile.
        """,
        "access denied",
        "a grant token is not valid",
        "the account has not opted in to this Region",
    ),
    errors.CredentialsError: _trouble(
        "there are no AWS credentials, or they are expired or refused",
        """
        The session has expired.
            Sign in again: aws sso login, or aws login; with --profile NAME if you use one.
        No credentials are set up on this machine.
            Set AWS_PROFILE or --profile, or run aws configure. A lab needs none: unset AWS_ACCESS_KEY_ID there.
        The profile needs an MFA code, and there is no terminal to prompt on.
            Run it in the foreground, or run aws configure export-credentials --format env and set what it prints.
        """,
        "the AWS credentials have expired",
        "AWS does not accept the credentials",
        "could not get AWS credentials",
        "it needs an MFA code from",
    ),
    errors.ConfigurationError: _trouble(
        "the Region, the profile, the endpoint or the key's name is missing or invalid",
        """
        No Region is set.
            Set it with --region or AWS_DEFAULT_REGION (boto3 does not read AWS_REGION), or use a key ARN.
        There is no such profile.
            aws configure list-profiles lists them; check --profile and AWS_PROFILE.
        The key's name is mistyped, or the key is not for encryption.
            Use a key ID, a key ARN or alias/NAME of a symmetric key (SYMMETRIC_DEFAULT, ENCRYPT_DECRYPT).
        """,
        "is not a KMS key ID, key ARN, alias or alias ARN",
        "there is no such AWS profile",
    ),
    errors.NotPicklableError: _trouble(
        "part of a keyring or a store, such as a client or credentials, cannot be sent to another process",
        """
        A client or credentials were passed to the keyring.
            Pass a session with a profile and a Region only, or make the keyring in the worker.
        on_event is a lambda or a local function.
            Use a function of a module.
        The URL of a proxy has a password.
            Set HTTPS_PROXY in the other process instead.
        """,
        "cannot be pickled",
    ),
    errors.KeyStateError: _trouble(
        "the KMS key is disabled, pending deletion or import, or otherwise unusable now",
        """
        The key is disabled.
            Enable it with aws kms enable-key --key-id KEY.
        Its deletion is scheduled.
            Cancel it with aws kms cancel-key-deletion --key-id KEY, and enable the key; after the deletion date the
            data is lost.
        Its imported material has expired, or its key store is disconnected.
            Import the material again, or connect the key store.
        """,
        "the key is disabled",
        "the key's state does not allow it",
    ),
    errors.KeyNotFoundError: _trouble(
        "there is no such key or alias in that account and Region",
        """
        The name is mistyped, or lacks alias/.
            sealwax keys list shows the keys and their aliases.
        The key is in another Region.
            Name the Region with --region, or the key by its ARN.
        The credentials are of another account, or SEALWAX_LAB names a lab.
            aws sts get-caller-identity shows the account; unset SEALWAX_LAB.
        """,
        "there is no such key or alias",
    ),
    errors.WrongKeyError: _trouble(
        "a different KMS key wrapped the data key, or KMS answered for a key other than the one requested",
        """
        An alias of -k points to another key: it was moved, or the envelope is somebody else's.
            sealwax inspect FILE shows the envelope's key; if you trust it, name it with -k by its ARN.
        The header names a key that did not wrap the data key.
            The file was altered: restore it from a backup.
        An endpoint that is not AWS answers for KMS.
            Check --endpoint-url, AWS_ENDPOINT_URL_KMS and proxies.
        """,
        "another KMS key wrapped this data key",
        "KMS answered for key",
        "does not point to",
    ),
    errors.WrappedKeyRefusedError: _trouble(
        "KMS refused the wrapped key: it is damaged, or was made with another context",
        """
        The wrapped key or the stored context was altered.
            Restore the file from a backup.
        The key's material was deleted, or imported material was replaced.
            Import the same material again: KMS cannot decrypt with another one.
        The data key was wrapped in another lab, or before the lab was created again.
            Use the lab that wrapped it: check --lab and SEALWAX_LAB.
        """,
        "KMS cannot decrypt the wrapped key",
    ),
    errors.ThrottledError: _trouble(
        "KMS throttled the request and every retry",
        """
        This run sends more requests per second than the account's quota allows.
            Use fewer --workers, or a lower --rate with sealwax fleet.
        Other programs of the account use up the quota.
            Run it at another time, or request a higher quota.
        A program asks for one data key per small value.
            Use CachingKeyring, which shares data keys for a while.
        """,
        "is throttling this account's requests",
        "the rate limit of",
    ),
    errors.UnavailableError: _trouble(
        "KMS, or the key store behind it, could not be reached or failed internally",
        """
        The network, a proxy or a VPC endpoint blocks the way.
            Check them, and the name of the Region: curl https://kms.REGION.amazonaws.com/ping
        The Region has an outage.
            Try again later; MultiRegionKeyring uses a key in another Region meanwhile.
        The CloudHSM cluster or external key store is down.
            Check its state with aws kms describe-custom-key-stores.
        """,
        "could not be reached",
        "had an internal error",
    ),
    errors.RequestRefusedError: _trouble(
        "KMS refused the request for another reason, or its answer cannot be read",
        """
        A quota of KMS is reached, such as 25 rotations on demand.
            Delete what is unused, or request more; for rotations, use --every.
        Another change of the key is in progress.
            Run the same command again in a minute.
        The endpoint is not AWS, or a proxy changes its answers.
            Check --endpoint-url, AWS_ENDPOINT_URL_KMS and proxies.
        """,
        "rejected the request",
        "a KMS resource quota is reached",
    ),
    errors.AllKeysFailedError: _trouble(
        "several wrapped keys were tried, and each failed; the message has a line for each",
        """
        The caller may use none of them.
            Fix the first line that names a key you should have access to.
        One key is denied, and the Region of the other is down.
            Fix the first, or wait for the second: one is enough.
        KMS throttles, or the network is down.
            Run the same command again; the lines say which of them it was.
        """,
        "wrapped keys that were tried failed",
    ),
    errors.FileError: _trouble(
        "a file could not be read, written or replaced; no file was half written",
        """
        It does not exist, or its permissions forbid it.
            Check the name and ls -l; the folder of an output must be writable too.
        The output already exists.
            Name another file with -o, or overwrite it with --force.
        The disk is full, or others may write a file that must be trusted.
            Free some space, or run chmod go-w on the file and its folder.
        """,
        "already exists",
        "opening ... failed",
        "writing ... failed",
    ),
    errors.StoreError: _trouble(
        "S3 refused or failed an operation on a bucket or an object",
        """
        The caller may not read or write the object.
            Allow s3:GetObject, s3:PutObject and s3:ListBucket, and the bucket's own KMS key.
        The bucket or object does not exist, or is in another Region.
            Check each character, and --region.
        Another program replaced the object meanwhile.
            Run the same command again.
        """,
        "the response is not from S3",
        "is larger than S3 accepts",
    ),
    errors.RewrapConflictError: _trouble(
        "the envelope changed, or contradicts itself, during a re-wrap; nothing was written, unless it says so",
        """
        Another program replaced the file meanwhile.
            Run the same command again. If the error says so, look at the object's versions first.
        Two runs work on the same files.
            Let one finish, then run the other again.
        Its two copies of the header differ.
            Decrypt it, and encrypt it again.
        """,
        "by another program meanwhile; it was left alone",
        "it was changed by another program while you edited it",
    ),
    errors.RecordError: _trouble(
        "a record could not be sealed or opened",
        """
        The value is not a record, or was altered.
            See sealwax help NotARecordError and sealwax help RecordTamperedError.
        Its data key is not in the key store, or was shredded.
            See sealwax help UnknownKeyError and sealwax help ShreddedError.
        A row of the key store was altered.
            See sealwax help KeyRowError.
        """,
    ),
    errors.NotARecordError: _trouble(
        "the value does not have the form of a record",
        """
        The column holds plaintext, or values of another library.
            Seal them once, and write them back.
        The value was cut off, as by a column that is too short.
            Make the column longer, and restore the value from a backup.
        The text was copied in part, or its case was changed.
            Copy all of it; the column needs a binary collation.
        """,
        "this is not a record",
    ),
    errors.RecordTamperedError: _trouble(
        "a record was altered, or was sealed for another row, another field or another local scope",
        """
        The row or the field is not the one that the record was sealed for.
            Open it with the name of its field and the primary key of its row.
        The record was copied to another row, or its primary key changed.
            Restore the row, or seal the value again for the new one.
        A program, a person or a faulty disk changed it.
            Restore it from a backup, and find out what wrote to it.
        """,
        "it was altered, or was sealed for another row, field or local scope",
    ),
    errors.UnknownKeyError: _trouble(
        "no data key of the scope made the record",
        """
        The record is of another scope, such as another tenant or environment.
            sealwax records explain VALUE shows its scope.
        The program uses another key store than the one that has the key.
            Check the URL of the store, and SEALWAX_STORE.
        The key store was restored from an older copy, or rows were deleted.
            sealwax records repair --from URL puts the key back from a copy that has it.
        """,
        "the key store has no data key with the id",
        "the key store has lost the data key",
    ),
    errors.ShreddedError: _trouble(
        "the data keys of the scope were shredded: what was sealed under them is lost",
        """
        Somebody shredded the scope.
            Its records can no longer be opened; remove them.
        A program still writes for a tenant that is gone.
            Stop it, or make a new key with sealwax records reopen.
        The scope is mistyped.
            sealwax records list shows the scopes and their states.
        """,
        "were shredded: what was sealed under them is gone",
    ),
    errors.KeyNotLoadedError: _trouble(
        "the data key is not in memory yet, and an event loop must not wait for it",
        """
        The scope was not loaded before its records were used.
            Await ensure_async or preload first; the library's reference describes both.
        Another scope has taken its place in memory.
            Give Records a larger capacity.
        The key is older than its age limit, and KMS was away.
            Load it again once KMS answers.
        """,
        "is not loaded, and loading it would block the event loop",
    ),
    errors.KeyRowError: _trouble(
        "a row of a key store does not hold the data key that it claims to hold",
        """
        Somebody changed its generation, kind, scope or wrapped key.
            Restore the row from a backup, and find out who may write to the table.
        The row was copied from another scope or key store.
            Remove it with sealwax records remove KEY_ID; it never worked here.
        The wrapped key was cut off or damaged.
            Copy the row from a backup; sealwax records remove deletes one that nobody has.
        """,
        "its columns were altered",
        "has no usable wrapped key",
    ),
    errors.KeyStoreError: _trouble(
        "a key store cannot be reached, refuses, or lacks a data key",
        """
        The database is away, or the user may not read or change its tables.
            Check the URL and the rights; the message has the database's own.
        The tables do not exist.
            Create them with sealwax records create-table, or run your migrations.
        It was restored from an older copy, so a newer key is missing.
            sealwax records repair --from URL puts it back from a copy that has it.
        """,
        "the key store has lost generation",
        "is open for reading only",
    ),
    errors.TableError: _trouble(
        "a table with sealed columns cannot be used, or is not as the map of fields says",
        """
        A name or a type in the map of fields is wrong.
            Correct the file of --fields; the message names the table and the column.
        The table has no primary key.
            Add one; rows are told apart by it.
        The tables are in another database than the key store.
            Name it with --data.
        """,
        "the map of fields",
        "is too short: it holds",
    ),
    errors.ModelError: _trouble(
        "a model or a statement uses a sealed column in a way that cannot work",
        """
        A statement sorts, groups, compares or computes with a sealed column.
            Search through an IndexOf column, or open the values and do it in the program.
        A class is declared so that its values could not be opened again.
            The message names the column and what to declare instead.
        No Records seals the tables.
            Call sealwax.sqlalchemy.use_records(Base.metadata, records) when the program starts.
        """,
        "which a sealed column is bound to",
        "which this row does not have yet",
    ),
    errors.OldFormError: _trouble(
        "a value is not in the form in which its column was before records, or cannot be stored in that form",
        """
        Another key encrypted it, or it was altered.
            Give the old form all keys that were ever used, the newest first, or restore the value from a backup.
        It is in yet another form, of another type, or a datetime without a time zone.
            Name every form, as AnyOf(Fernet(key), Plaintext()), the type of the column, and zone= for such datetimes.
        It begins as a record does, while the old form is still written.
            Refuse it as input; once records are written, it can be sealed.
        """,
        "a stored value cannot be read as",
        "it is not a token, was altered, or is of another key",
    ),
    errors.EngineError: _trouble(
        "Spark or the Lambda function did not start, or gave up on a job; finished work is kept",
        """
        PySpark or Java is missing.
            pip install 'sealwax[spark]', and Java 17 or 21 in JAVA_HOME or on the PATH.
        Spark gave up on a job.
            Run the same command again to resume; the executors' logs have the cause.
        The Lambda function can read or list nothing.
            Check SEALWAX_LOCATIONS and its role's permissions.
        """,
        "Spark does not start",
        "Spark gave up on the job",
    ),
    errors.PlanError: _trouble(
        "not a plan of sealwax fleet, or damaged, or in use by another run",
        """
        The file is not a plan.
            Name the file that sealwax fleet plan -o wrote.
        Another run uses the plan.
            Wait for it, or stop it; it can be resumed.
        Another release wrote it, or it is damaged.
            Move it away, since it may hold what nothing else does, and plan again.
        """,
        "is not a plan",
        "is from another build of sealwax",
    ),
    errors.SettingsError: _trouble(
        "the settings file is refused, or has no key for a file",
        """
        Somebody else owns the file, or may write to it.
            Check its content, then run chown and chmod go-w on it.
        A setting is unknown, of the wrong type, or never allowed, such as a lab, an endpoint or credentials.
            Correct it as the message says; docs/reference/settings.md lists all settings.
        No rule with a key matches the file.
            See sealwax settings show FILE; add a key, or name one with -k.
        """,
        "the settings file ... is refused",
        "the settings file ... cannot be read",
    ),
    errors.PolicyError: _trouble(
        "a policy breaks a rule of the policy language, so what it allows is undefined",
        """
        It is not JSON, or an element is mistyped.
            The message names the place: correct it there.
        A condition operator or key does not exist or does not fit.
            Use one of AWS's, such as StringEquals with kms:EncryptionContext:NAME.
        One principal was named as administrator and as user.
            Name two: whoever administers a key should not use it.
        """,
        "is not a condition operator",
        "is not a condition key of KMS requests",
    ),
    errors.FactsError: _trouble(
        "an audit cannot read a file of facts, events or accepted findings, or a fleet plan",
        """
        The file is not what the option expects, or another release wrote it.
            Save the facts again: sealwax audit --all --save-facts FILE.
        The facts do not include what was asked about.
            Collect them with the permissions of sealwax policy iam audit.
        The file is cut off or was edited.
            Write it again; a baseline must be JSON with a reason for each entry.
        """,
        "so it is not a facts file",
        "is not a baseline",
    ),
    errors.UnreadableValueError: _trouble(
        "a record is authentic, but holds a value that this release cannot read",
        """
        A later release sealed it, with a type that this one does not know.
            Open it with that release, or a later one.
        Another program that has the data key sealed it.
            Let that program write values as docs/explanation/records-format.md says.
        The value is too large a number to read safely.
            Seal numbers of more than 4,000 digits as text.
        """,
        "the record is authentic, but",
    ),
    errors.LabError: _trouble(
        "the embedded KMS lab cannot do what was asked",
        """
        There is no lab in that folder.
            Check --lab and SEALWAX_LAB; sealwax lab create-key makes one.
        The lab is protected.
            Set SEALWAX_LAB_PASSPHRASE or SEALWAX_LAB_KEY_FILE as when it was created.
        Others may write to its folder.
            If all its files are yours: chmod go-w DIR; else use a new folder.
        """,
        "no lab in",
        "the lab has no principal",
    ),
}

# The errors of the extras, by name: to import their classes takes the packages that the extras install.
OF_EXTRAS: Final[Mapping[str, Trouble]] = {
    "SealedFieldError": _trouble(
        "a query or an assignment in Django that a sealed field cannot serve",
        """
        A query searches, sorts or computes with a sealed field.
            Search through an IndexOf beside the field, or open the values and do it in the program.
        One statement writes many rows, and each row needs a record of its own.
            Use bulk_update or save instead of update.
        The tenant or the row changes, and the sealed fields do not.
            Write them together: name them in update_fields too, or save the whole object.
        """,
        "cannot be searched by its value",
        "which values() does not see",
        "is bound to; add",
    ),
}
