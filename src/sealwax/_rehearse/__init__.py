"""A rehearsal: the whole product run once on a real account, with keys, a bucket and roles made for it and taken away.

It sends real requests, compares AWS's answers with those of the lab, and hands back a report without identifiers.
"""
