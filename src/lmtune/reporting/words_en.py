"""The texts of all pages in English. `one|many`: which of the two is decided by {n}. Other languages have the same keys."""

ENGLISH = {
    # Amounts
    "billions": "{count} B",
    "millions": "{count} M",
    "day": "{day} {month} {year}",
    "documents": "{n} document|{n} documents",
    "tokens": "{n} token|{n} tokens",
    "steps": "{n} step|{n} steps",
    "epochs": "{count} epoch|{count} epochs",
    # Head
    "running": "running",
    "completed": "completed",
    "stopped": "stopped",
    "failed": "failed",
    "unknown": "no results",
    "model": "{name} ({count} parameters)",
    "model_part": "{name} ({count} parameters, of which {part} learn)",
    "from_scratch": "{model}, trained from scratch on {text}.",
    "fine_tuned": "{model}, fine-tuned on {text}.",
    "text": "{documents} of {name} ({size})",
    "text_streamed": "{name}, streamed",
    "effort": "{steps}, {tokens} learned",
    "left_out": "{said}, {n} more left out of the loss",
    "on_machine": "{date}, {duration} on {machine}.",
    "cpu": "one CPU thread|{n} CPU threads",
    "devices": "{name}|{n} × {name}",
    "progress": "Step {step} of {steps}. This page loads itself anew while the run goes on.",
    "nothing_scored": "Nothing has been held out or scored, so no quality is known.",
    # Tiles
    "bits_per_byte": "bits per byte of held-out text, lower is better",
    "same_text": "on the same text before and after: {amount}",
    "one_text": "on {amount}",
    "all_tokens": "all {n} held-out tokens",
    "part_tokens": "{n} of {whole} held-out tokens",
    "in_documents": "{amount} in {documents}",
    "unigram_is": "a unigram model has {bits}",
    "perplexity": "perplexity per token",
    "was": "before {value}",
    "speed": "tokens a second",
    "memory_both": "{used} of memory at most; a step was predicted to take {predicted} besides the libraries",
    "memory_used": "{used} of memory at most",
    # Learning
    "learning": "Learning, in bits per byte",
    "held_out": "held out",
    "training": "training",
    "unigram": "unigram",
    "best": "best",
    "resumed": "resumed",
    "step": "step",
    "rate": "rate, peak {rate}",
    "learning_told": (
        "Held-out text of {name} from {first} bits per byte at step {start} to {last} at step {end}, the "
        "lowest {best} at step {best_step}. {training}{unigram}"
    ),
    "training_told": "Training text from {first} to {last}. ",
    "unigram_told": "A unigram model has {bits}.",
    "learning_note": "The ring is the best step ({best_step}), with which the run ends: {best} bits per byte.",
    "average_kept": (
        "The run ends with the average of the weights of {points} steps from step {first} on: {bits} bits per byte, {without} "
        "without it."
    ),
    "average_left": (
        "The average of the weights of {points} steps from step {first} on has {bits} bits per byte, {without} without it, and was "
        "not kept."
    ),
    "learning_note_last": "The ring is the lowest point, step {best_step}: {best} bits per byte.",
    "training_note": (
        "The training line is its loss per token times the {ratio} tokens a byte of the training text has, "
        "dropout included."
    ),
    "unigram_beyond": "A unigram model has {bits}, beyond the figure.",
    "only_training": "Nothing was held out: the line is the loss of the training text.",
    "rates": "Layer groups",
    "rates_note": (
        "Each strip is the learning rate of one group of layers from step {start} to {end}, up to its own "
        "peak, from the embeddings at the bottom to the head at the top; where it is empty, the group is "
        "frozen."
    ),
    "rates_told": (
        "Learning rates of {n} layer groups over {steps} steps; their peaks from the lowest group up: {peaks}."
    ),
    "group": "group {number}, {rate}",
    "evaluations": "Every evaluation",
    "epoch": "epoch",
    "seconds": "time",
    # Sets
    "sets": "What else it was watched on",
    "sets_note": (
        "Bits per byte at the start (ring) and with the final weights (dot). A dot to the right of its ring "
        "is text that the model predicts worse than before: what it has forgotten."
    ),
    "sets_note_running": (
        "Bits per byte at the start (ring) and at the last evaluation (dot). A dot to the right of its ring "
        "is text that the model predicts worse than before: what it has forgotten."
    ),
    # Forgetting
    "forgetting": "What it may forget, in bits per byte",
    "untouched": "before",
    "budget": "budget",
    "old_text": "old text {share}",
    "own_text": "written by the untouched model",
    "forgetting_note": (
        "The line is {name}; dotted are its value under the untouched model and the budget, {budget} above. The strip is the share "
        "of old text in each step, {most} at most."
    ),
    "budget_kept": (
        "The final weights have moved it by {rise}, within the budget; {tokens} of old text ({source}) were learned again, {share} "
        "of all."
    ),
    "budget_spent": (
        "The final weights have moved it by {rise}, over the budget, although {tokens} of old text ({source}) were learned again, "
        "{share} of all."
    ),
    "forgetting_told": (
        "{name} from {first} bits per byte before the first step to {last} at step {end}; the budget is {target}. Shares of "
        "old text from one evaluation to the next: {shares}."
    ),
    # Samples
    "samples": "The same sentence while it learns",
    "samples_best": "step {step}, best",
    "samples_step": "step {step}",
    "samples_average": "step {step}, average",
    "samples_more": "One more prompt is in samples.md.|{n} more prompts are in samples.md.",
    "control": "\N{MIDDLE DOT} stands for a byte that is no text.",
    # Documents
    "by_document": "Where it is good and bad",
    "worst": "Worst held-out documents",
    "nearest": "Best held-out documents",
    "listed": "Held-out documents, the worst first",
    "by_document_note": "Bits per byte of each document, before (ring) and after (dot).",
    "by_document_after": "Bits per byte of each document.",
    "document": "Document {number}",
    "change": "Change by document",
    "change_note": (
        "{better} of {n} documents are predicted better than before, {worse} worse. Each bar counts documents"
        " by their change in bits per byte."
    ),
    "change_told": (
        "Histogram of the change of {n} documents in bits per byte, from {low} to {high}; {better} fell, {worse} rose."
    ),
    # Text
    "flow": "What happened to the text",
    "flow_read": "read",
    "flow_kept": "kept",
    "flow_planted": "canaries, planted to be looked for",
    "flow_train": "learned from",
    "flow_validation": "held out",
    "flow_test": "kept for a test",
    "flow_left": "left out",
    "flow_bytes": "bytes",
    "flow_documents": "documents",
    "flow_tokens": "tokens",
    "flow_closes": (
        "Every byte that was read stands in one row; a plus is a byte that was added. A document is: {documents_are}."
    ),
    "flow_held": "Held out by {rule}.",
    "flow_streamed": "The text is streamed: what has been read is known at the end.",
    "seen": "Of the 13-word sequences of the held-out text {share} also stand in the training text.",
    "sources": "Sources",
    "source": "source",
    "source_number": "source {number}",
    "lengths": (
        "Half of the {n} training documents have fewer than {half} tokens, nine in ten fewer than {most}; none has {end} or more."
    ),
    "lengths_alike": "Nine in ten of the {n} training documents have fewer than {most} tokens; none has {end} or more.",
    "modified": "changed",
    "checksum": "XXH3 (128 bits)",
    "sources_more": "One more is in ledger.json.|{n} more are in ledger.json.",
    # Reproduce
    "reproduce": "Do it again",
    "command": "Command",
    "versions": "Versions",
    "machine": "Machine",
    "machine_is": "{device}, {threads}, attention {attention}{compiled}",
    "compiled": ", compiled",
    "seed": "Seed",
    "memory": "Memory",
    "memory_predicted": "{predicted} predicted for a step",
    "settings_sum": "Checksum of settings",
    "text_sum": "Checksum of the text",
    "starts": "Starts",
    "start": "{date}, from step {steps}",
    "next": "Go on with it",
    "next_resume": "go on where it stopped",
    "next_generate": "let it continue a text",
    "next_eval": "score it again",
    "next_train": "learn from more text",
    # Details
    "measures": "All measures, and how they were made",
    "measure": "measure",
    "before": "before",
    "after": "after",
    "final": "final",
    "now": "now",
    "texts_two": "before and after: {part}; final: {final}",
    "texts_same": "before and after: {final}",
    "texts_one": "of {final}",
    "protocol": (
        "{tokens}, {words} words, {bytes} bytes; windows of {context} tokens, each token scored once, "
        "{dtype}, split by {split_by}."
    ),
    "loss": "loss (nats per token)",
    "word_perplexity": "word perplexity",
    "accuracy": "accuracy",
    "separator_loss": "loss of separators (nats)",
    "measure_bits_per_byte": "bits per byte",
    "unigram_bits": "bits per byte of a unigram model",
    "differing": "Settings that differ from the defaults of lmtune and transformers ({n})",
    "all_settings": "All settings",
    "key": "key",
    "value": "value",
    "default": "default",
    "private": (
        "This run is private: no text of the corpus or of the model, and no name of a file, stands on this page."
    ),
    "written": "Written by lmtune {version}.",
    # Sweep
    "sweep": "Sweep of {n} run|Sweep of {n} runs",
    "sweep_note": (
        "{completed} of {n} completed. Ordered by bits per byte of the same held-out text, the lowest first."
    ),
    "sweep_texts": "The runs were not all scored on the same text, so they are not ranked.",
    "perplexity_short": "perplexity",
    "job": "run",
    "sweep_curves": "Learning, in bits per byte of held-out text",
    "sweep_told": (
        "Held-out bits per byte of {n} runs over their steps, at the end from {low} to {high}; the lowest is {best}."
    ),
    # Kinds of bytes that were left out, by the kinds of the ledger
    "left_marks": "byte-order marks",
    "left_recoding": "more than in UTF-8, of other encodings",
    "left_carriage_returns": "CR of CRLF line ends",
    "left_table": "names, marks and other columns of tables",
    "left_line_ends": "line ends behind documents",
    "left_blank_lines": "blank lines around documents",
    "left_empty": "rows without text",
    "left_unwanted": "without the wanted values",
    "left_normalized": "more than in the form of data.unicode",
    "left_repeated": "repeated rows",
    "left_joined": "rows and lines joined into documents",
    "left_short": "documents too short",
    "left_over_limit": "documents beyond the limit",
    "left_in_training": "held out, but also in the training text",
    "left_held_elsewhere": "held out in another source, or by the run that the model comes from",
    "left_learned_before": "held out, but learned by the run that the model comes from",
    "left_copied": "copies of passages that are held out",
    "left_other": "left out otherwise",
    # Comparison
    "compare": "{n} run side by side|{n} runs side by side",
    "compare_best": "The lowest on the same held-out text is {run}, with {bits} bits per byte.",
    "compare_apart": "The runs were scored on {n} texts or in {n} ways. Numbers compare within one section only.",
    "compare_not_ranked": "Not ranked: {run}: {reason}.",
    "compare_text": "{documents}, {size} held out; windows of {context} tokens, {dtype}.",
    "compare_told": "Bits per byte of {n} runs on the same held-out text, from {low} to {high}.",
    "compare_intervals": (
        "Points are bits per byte, the lowest on top; lines are 95 % intervals over documents (bootstrap). Runs are compared on "
        "the same documents, so the difference from the best, in the table, is known far better than either number."
    ),
    "compare_points": "Points are bits per byte, the lowest on top. No interval: too few documents, or scores that were not kept.",
    "compare_behind": "behind the best",
    "compare_seeds": "seeds",
    "compare_runs_behind": "behind the best (95 % over runs and documents)",
    "compare_over_seeds": "Over seeds: mean and standard deviation (n−1)",
    "compare_vocabularies": "The vocabularies differ: what is measured per token does not compare, and is left out.",
    "compare_versions": "Different versions: {versions}.",
    "compare_curves_told": "Held-out bits per byte of {n} runs over their steps, at the end from {low} to {high}.",
    "compare_settings": "What differed",
    # What the ledger says in English
    "said:hash": "the hash of each document",
    "said:given": "the source itself",
    "said:stretches": "stretches of the text",
    "said:, among the first ": ", among the first ",
    "said: documents": " documents",
    "said: and ": " and ",
    "said:whole files": "whole files",
    "said:stretches between blank lines": "stretches between blank lines",
    "said:lines": "lines",
    "said:rows": "rows",
    "said:articles, from one ` = Title = ` to the next": "articles, from one ` = Title = ` to the next",
    "said:runs of ": "runs of ",
    "said: consecutive ": " consecutive ",
    "said:, since the source names no articles": ", since the source names no articles",
}
