"""What each verb prints on a terminal: its success and its likeliest failures, at 80 and 120 columns.

``scenes.py`` lists the commands. ``golden/`` has a file for each verb, to be read as its users see it, and compared by
``tests/cli/test_transcripts.py``. After a change of what a command prints, renew and read them::

    .venv/bin/python -m tests.cli.transcripts --write
    git diff tests/cli/transcripts/golden
"""
