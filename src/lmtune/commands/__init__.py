"""One door for each command; each reads as a table of contents."""
