"""All that knows Hydra and the terminal."""
