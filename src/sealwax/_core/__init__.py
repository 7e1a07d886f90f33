"""The engine of the library: the format, sealers, caches and files. Nothing here imports the AWS SDK."""
