"""`hydra/launcher=processes`, in the only place where Hydra looks for plugins: hydra_plugins."""

from lmtune.cli import processes


class ProcessesLauncher(processes.ProcessesLauncher):
    """The launcher of lmtune, under a name that Hydra finds."""
