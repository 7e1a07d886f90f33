"""The envelope's bytes: no network, no clock, no logging.

::

    preamble   never changes; names the envelope, its context and where the rest lies      header.py
    slots      one or two; the wrapped data keys, the only bytes a re-wrap touches          header.py
    payload    a Cobblestone-256 ciphertext under the data key                              payload.py

Open as files they are stream.py (one pass) and random_access.py (any place), over transfer.py. The whole envelope as
one line of text is armor.py. The reference is docs/format.md.
"""
