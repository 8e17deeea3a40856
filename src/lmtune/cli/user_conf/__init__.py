"""conf/ of the user's own: where it is, what may stand in it, and what it cannot do."""
