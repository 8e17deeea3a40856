"""conf/ of the user's own: where it is, what it may hold, and what it cannot do."""
