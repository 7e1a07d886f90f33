"""Messages of the AWS Encryption SDK, versions 1 and 2 of the format.

::

    header    the suite, the context, the encrypted data keys; authenticated by a tag       header.py
    body      frames of one length and a final one, or one part that is not framed          body.py
    footer    an ECDSA signature over all before it, in some suites                         signature.py

suites.py has the algorithm suites and their keys, and opening.py opens a message with its data key. As values and
files: whole.py (one pass, in memory), ../passes.py (front to back), random_access.py (any position). writing.py writes
the one suite that is written: framed, with a key commitment, not signed.

A message is never re-wrapped. Its header is authenticated under a fixed nonce and a key derived from the message's id:
a second header for one id would reveal the key of that authentication.
"""
