"""Objects of the Amazon S3 Encryption Client, versions 2 and 3 of the format.

::

    fields     what the object's metadata or its instruction file say        fields.py
    body       one message of AES-GCM: ciphertext, then a tag of 16 bytes    opening.py

Nothing of such an object is authentic before its last 16 bytes. The wrapped key is a plain blob of KMS that nothing in
the ciphertext covers, so a new one can take its place: the object itself stays as it is.
"""
