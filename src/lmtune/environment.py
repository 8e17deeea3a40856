"""Variables that libraries read when they are imported."""

import os
import sys
from pathlib import Path

CARRIED = "lmtune-fetch.sha256"
"""File in a folder that `lmtune fetch` has filled: the checksum of each file in it, in the format of `sha256sum --check`."""

BUSY = 50.0
"""Percent of a processor's time from which on it counts as taken."""

THREAD_SETTINGS = frozenset(["OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
"""Variables with which a user, or torchrun, has said how threads are to be used."""


def set_environment() -> None:
    """Keep the libraries from talking where nobody asked: no telemetry, no download counts, no background conversions."""
    quiet = {
        "DISABLE_SAFETENSORS_CONVERSION": "1",  # from_pretrained would ask the Hub to convert .bin weights
        "GRADIO_ANALYTICS_ENABLED": "False",  # of the client that trackio brings
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",  # datasets would call home even for local files
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "WANDB_ERROR_REPORTING": "false",  # its own crashes, to its makers
        "USE_HUB_KERNELS": "NO",  # some models would fetch compiled code and run it
        "TOKENIZERS_PARALLELISM": "true",  # said, so that tokenizers does not warn after a fork
    }
    if is_carried():
        quiet["HF_HUB_OFFLINE"] = "1"  # what was carried here is all there is
    for name, value in quiet.items():
        os.environ.setdefault(name, value)


def is_carried() -> bool:
    """True where HF_HOME names a folder that `lmtune fetch` has filled."""
    home = os.environ.get("HF_HOME")
    return bool(home) and Path(os.path.expandvars(str(home)), CARRIED).expanduser().is_file()


def set_waiting() -> None:
    """On a machine that others use, let torch's threads sleep while they wait for each other; takes 0.1 s to find out.

    It comes to nothing once torch has been imported, and where the user has said how threads are to be used.
    """
    if "torch" not in sys.modules and not os.environ.keys() & THREAD_SETTINGS and is_shared():
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def is_shared() -> bool:
    """True if somebody else computes on a processor that this process may use, at this moment.

    There a thread that spins while it waits for the others takes the time that they need. On a machine of its own
    spinning is the quicker way to wait.
    """
    import psutil

    try:
        allowed = os.sched_getaffinity(0)
    except AttributeError:  # macOS
        allowed = set(range(os.cpu_count() or 1))
    shares = psutil.cpu_percent(interval=0.1, percpu=True)
    return any(share > BUSY for number, share in enumerate(shares) if number in allowed)
