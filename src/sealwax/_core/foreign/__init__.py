"""The formats of other programs, opened with data keys that a keyring lends: no network, no clock, no logging.

data_key.py is the data key of another format, which may be shorter than an envelope's; ``esdk`` reads and writes
messages of the AWS Encryption SDK.
"""
