"""The user's own conf/: where it is, what it may contain, and what it cannot do."""
