"""The envelope's bytes: no network, no clock, no logging.

::

    preamble   never changes; holds the envelope's id, its context and the layout            header.py
    slots      one or two; the wrapped data keys, the only bytes that a re-wrap changes      header.py
    payload    a Cobblestone-256 ciphertext under the data key                               payload.py

As open files: stream.py (one pass) and random_access.py (any position), over io.py. As one line of text: armor.py. The
specification is docs/explanation/format.md.
"""
