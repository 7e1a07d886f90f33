"""sealwax: envelope encryption with AWS KMS."""

__version__ = "0.1.0"
