"""Variables that libraries read when they are imported."""

import os


def set_environment() -> None:
    """Keep the libraries from talking where nobody asked: no telemetry, no download counts, no background conversions."""
    quiet = {
        "DISABLE_SAFETENSORS_CONVERSION": "1",  # from_pretrained would ask the Hub to convert .bin weights
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",  # datasets would call home even for local files
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "USE_HUB_KERNELS": "NO",  # some models would fetch compiled code and run it
        "TOKENIZERS_PARALLELISM": "true",  # said, so that tokenizers does not warn after a fork
    }
    for name, value in quiet.items():
        os.environ.setdefault(name, value)
