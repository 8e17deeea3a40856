"""The measures of a held-out text: their names and labels."""

COLUMNS = {
    "bits_per_byte": "bits per byte",
    "perplexity": "perplexity",
    "word_perplexity": "word perplexity",
    "loss": "loss",
    "accuracy": "accuracy",
}
"""Those that tables show, with their labels."""
