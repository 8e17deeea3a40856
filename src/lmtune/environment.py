"""Environment variables that libraries read on import."""

import os
import sys
from pathlib import Path

CARRIED = "lmtune-fetch.sha256"
"""Checksums of all files in a folder that `lmtune fetch` has filled, in the format of `sha256sum --check`."""

BUSY = 50.0
"""Percentage of CPU time above which a processor counts as taken."""

THREAD_SETTINGS = frozenset(["OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
"""Variables by which a user, or torchrun, configures threads."""


def set_environment() -> None:
    """Keep libraries off the network unless asked: no telemetry, no download counts, no background conversions."""
    quiet = {
        "DISABLE_SAFETENSORS_CONVERSION": "1",  # from_pretrained would ask the Hub to convert .bin weights
        "GRADIO_ANALYTICS_ENABLED": "False",  # of the client that trackio brings
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",  # datasets would call home even for local files
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "WANDB_ERROR_REPORTING": "false",  # wandb would report its own crashes
        "USE_HUB_KERNELS": "NO",  # some models would fetch compiled code and run it
        "TOKENIZERS_PARALLELISM": "true",  # explicit, so that tokenizers does not warn after a fork
    }
    if is_carried():
        quiet["HF_HUB_OFFLINE"] = "1"  # the folder has all there is
    for name, value in quiet.items():
        os.environ.setdefault(name, value)


def is_carried() -> bool:
    """True if HF_HOME names a folder that `lmtune fetch` has filled."""
    home = os.environ.get("HF_HOME")
    return bool(home) and Path(os.path.expandvars(str(home)), CARRIED).expanduser().is_file()


def set_waiting() -> None:
    """If others use the machine, let torch's threads sleep while they wait for each other; takes 0.1 s to find out.

    Has no effect once torch is imported, or if the user has configured threads.
    """
    if "torch" not in sys.modules and not os.environ.keys() & THREAD_SETTINGS and is_shared():
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def is_shared() -> bool:
    """True if another process currently computes on a processor that this one may use.

    There, a thread that spins while it waits takes CPU time from the threads it waits for. On an otherwise idle machine,
    spinning is faster.
    """
    import psutil

    try:
        allowed = os.sched_getaffinity(0)
    except AttributeError:  # macOS
        allowed = set(range(os.cpu_count() or 1))
    shares = psutil.cpu_percent(interval=0.1, percpu=True)
    return any(share > BUSY for number, share in enumerate(shares) if number in allowed)
