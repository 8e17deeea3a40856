"""A typed key without effect is an error: which keys do nothing, for which command, beside which others."""
