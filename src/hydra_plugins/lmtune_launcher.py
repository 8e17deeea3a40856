"""`hydra/launcher=processes`, where Hydra looks for plugins: it takes them from below hydra_plugins alone."""

from lmtune.cli import processes


class ProcessesLauncher(processes.ProcessesLauncher):
    """That of lmtune."""
