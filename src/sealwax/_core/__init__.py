"""The library's engine: envelopes, their format, and what one object takes. Nothing here knows AWS."""
