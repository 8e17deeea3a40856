"""The loop: the only room that knows transformers.Trainer."""
