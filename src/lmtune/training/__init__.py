"""Training: the only package that knows transformers.Trainer; every hook into it is in trainer.py."""
