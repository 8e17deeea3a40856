"""Serving a model: an engine that generates many texts at once, and HTTP in front of it.

Path of a request: body -> parameters -> jobs -> engine -> pieces -> wire. The engine and modules below it know no HTTP, and
modules above it know no tensors.

    app                     the routes
    completions, runs       two wire formats; completion_request: the parameters of the first
    answer, metrics         from a request to its pieces, and counts over all requests
    access, body, faults    authentication, limits of a body, error responses
    models                  the served checkpoints
    parameters              the parameters of generation that a request may set
    engine < plain, batch   one thread per model; texts that generate writes alone; texts that are written in a batch
    chooser, output         the next token of a text; its text, cut at stop strings
    decoder < cache         rows of different lengths in one forward pass
"""
