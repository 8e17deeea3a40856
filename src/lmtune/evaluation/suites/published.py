"""The zero-shot table of GPT-2 as it was published, and the columns that stand in it."""

PUBLISHED = {
    "124M": (35.13, 45.99, 87.65, 83.4, 29.41, 65.85, 1.16, 1.17, 37.50, 75.20),
    "355M": (15.60, 55.48, 92.35, 87.1, 22.76, 47.33, 1.01, 1.06, 26.37, 55.72),
    "774M": (10.87, 60.12, 93.45, 88.0, 19.93, 40.31, 0.97, 1.02, 22.05, 44.575),
    "1.5B": (8.63, 63.24, 93.30, 89.05, 18.34, 35.76, 0.93, 0.98, 17.48, 42.16),
}
"""Table 3 of the paper, in the order of COLUMNS; its sizes are printed there as 117M, 345M, 762M and 1542M."""
COLUMNS = {
    "lambada_perplexity": "LAMBADA perplexity",
    "lambada_accuracy": "LAMBADA accuracy, %",
    "cbt-cn_accuracy": "CBT-CN accuracy, %",
    "cbt-ne_accuracy": "CBT-NE accuracy, %",
    "wikitext-2_perplexity": "WikiText-2 perplexity",
    "ptb_perplexity": "PTB perplexity",
    "enwik8_bits_per_byte": "enwik8 bits per byte",
    "text8_bits_per_character": "text8 bits per character",
    "wikitext-103_perplexity": "WikiText-103 perplexity",
    "lm1b_perplexity": "1BW perplexity",
}
