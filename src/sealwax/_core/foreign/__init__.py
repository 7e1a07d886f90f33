"""The formats of other programs, opened with data keys that a keyring lends: no network, no clock, no logging.

``esdk`` reads and writes messages of the AWS Encryption SDK. ``s3ec`` reads objects of the S3 Encryption Client, and
says which of their fields a re-wrap changes. scripts.py reads the files of two scripts.

They share passes.py, in which nothing is released before it is authentic, rules.py, what a caller allows, and
data_key.py, a data key that may be shorter than an envelope's.
"""
