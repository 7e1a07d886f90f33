"""What sealwax costs, against what else there is. ``make bench`` runs all of it and prints one table.

Everything is measured in one run on one machine, the contestants of a row in turn (A B A B ...), and the median of at
least five rounds counts: the ratios say something, the absolute figures only about this machine. A ratio above 1 means
that sealwax is so many times faster. Nothing here fails: a missed aim is printed as missed.

What is compared:

- *Streamed*: 256 MiB in writes or reads of 1 MiB, from memory into a sink that counts. The limit is bare
  ``cryptography.cobblestone``, which is the payload's construction without headers, buffers and wiping.
- *One value*: from bytes to bytes, 1 KiB, 1 MiB and 64 MiB, with a new data key each time.
- Time at KMS is out of both pictures: ours has a keyring that wraps the data key with AES-GCM in the process,
  aws-encryption-sdk its raw master key with a static wrapping key. Its *default* suite signs with ECDSA, *unsigned*
  is AES_256_GCM_HKDF_SHA512_COMMIT_KEY; frames have its default length of 4096 bytes.
- tink has no data key of its own per value here (AEAD AES256_GCM, streaming AES256_GCM_HKDF_1MB, one keyset for all),
  no commitment and no context at KMS. pyrage (age) has an X25519 recipient, and no KMS.
- *Key cached*: 1 KiB under a data key that a cache lends, with a context pair that stays local, against
  aws-encryption-sdk with its caching materials manager; ``encrypt_many`` against a loop of ``encrypt``; and 500 tenants
  with a context and a data key each, in turn.
- *Records*: fields of a database, in the processor's time, one by one, in text, and 2,000 at once, against bare AESGCM
  with the same additional data, tink and Fernet, which have one key for all; no call of KMS or of the key store is
  among them. *A prefix each*: every record needs a key derived for it.
- *Models*: what two sealed columns of text add to a row of SQLAlchemy or Django in PostgreSQL, inserted and read 2,000
  at a time, in the processor's time of the program alone, against what sqlalchemy-utils and
  django-fernet-encrypted-fields add to it. *Sealed* is the type, *sealed* the attribute that is bound to its row.
- *ESDK*: messages of the AWS Encryption SDK, in its suite without signatures and with frames of 4 KiB, against the SDK,
  in the processor's time; and the memory of a process that writes and reads one of 2 GiB.
- *S3EC*: objects of the S3 Encryption Client re-wrapped in place, against getting and putting them with that client, in
  requests to S3, bytes of bodies and KMS calls.
- *File to file*: 1 GiB on tmpfs against ``cp``, once by the library and once as the whole process of the command line,
  start included, with the lab as KMS.
- *500 files*: the whole process of ``encrypt -r`` over files of 2000 bytes on tmpfs, with the lab as KMS in it. Where
  that answers at once, 8 workers against one, since no thread should start; where it answers after 50 ms, against the
  waits of all files divided by 8.
- *Re-wrap* and *range*: a file of 1 MiB against one of 4 GiB; independent of the size means a ratio near 1.
- *Fleet*: a plan of 10,000 headers on tmpfs, under one data key and under one each, against as many calls of
  ``inspect``, which it cannot beat; a run over 1,000 small files against its two bounds, the lab's ReEncrypt and the
  writing of the file; a run over files of 16 MiB against aws-encryption-sdk, which has to decrypt and encrypt them
  again (unsigned, without KMS); a file of 10 GiB on the disk (/var/tmp) against one of 1 MiB beside it; S3 objects at
  moto's server, in this process, against reading and writing them as they are, and the bytes of bodies counted there:
  moto's own copying takes most of the time.
- *Audit*: the whole process of ``sealwax audit --facts`` over an account of 2,000 keys, whose policies delegate to IAM,
  and 500 roles, to a report in JSON and to the page.
- *Start*: whole processes, from ``exec`` to exit; ``encrypt`` by the processor's time, with the lab.
- *KMS call*: one GenerateDataKey through :class:`~sealwax.KmsKeyring`, which wipes and redacts the plaintext key,
  against a plain boto3 client's, which does not; the lab in the process, and over HTTP on the loopback.
"""
