"""Rotation of a whole fleet of envelopes: planned, resumable, proven.

``plan`` looks at every header and writes a plan file; ``run`` re-wraps what is stale in it, and can be stopped or
killed at any moment and run again; ``status`` reads the plan file; ``verify`` looks at every header again, compares
payloads with the digests that the plan has taken, and decrypts a sample. ``refresh`` scans a plan's places again, for a
scheduler that keeps one plan::

    fleet.plan("rotation.plan", ["backups"], sources=["alias/old"], to=["alias/new"],
               contexts=fleet.Contexts((("purpose", "backup"),)))
    fleet.run("rotation.plan")
    assert fleet.verify("rotation.plan").done

An envelope's payload is never touched, and its data key never seen: KMS re-wraps it (kms:ReEncrypt).

Engines share one module, ``_shard``, which works on a part of one store's objects: pure data in and out, picklable,
harmless when repeated. An engine makes the store and one :class:`~sealwax.fleet._kms_calls.Rewrapper` where the work is
done, takes :class:`~sealwax.fleet._settings.Settings` from the plan, calls ``shard.scan(items, settings, store)`` or
``shard.rewrap(items, settings, store, rewrapper)``, and keeps the results. :mod:`sealwax.fleet._rotation` does so with
threads and a plan file.
"""

from sealwax.fleet._kms_calls import Rewrapper
from sealwax.fleet._report import Checked, Report, as_text
from sealwax.fleet._rotation import plan, problems, refresh, run, status, verify
from sealwax.fleet._settings import Contexts, Settings

__all__ = [
    "Checked",
    "Contexts",
    "Report",
    "Rewrapper",
    "Settings",
    "as_text",
    "plan",
    "problems",
    "refresh",
    "run",
    "status",
    "verify",
]
