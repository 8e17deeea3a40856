"""Typed and without effect is an error: which keys do nothing, for which command, beside what else."""
