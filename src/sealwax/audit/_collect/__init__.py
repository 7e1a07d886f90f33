"""Facts, collected from a live account or read from files that AWS writes."""
