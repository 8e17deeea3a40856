"""The command line: the only package that knows Hydra and the terminal."""
