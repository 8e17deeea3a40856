"""A model as a service: an engine that writes many texts at once, and the HTTP in front of it.

A request's way: body -> parameters -> jobs -> engine -> pieces -> wire. The engine and what is below it know no HTTP, and
what is above it knows no tensors.

    app                     the routes
    completions, runs       two wire formats; completion_request: what the first takes
    answer, metrics         what comes back of a request, and what is counted of all
    access, body, faults    who may ask, what may be sent, what is said of what cannot work
    models                  the checkpoints that are served
    parameters              what may be asked of a text
    engine < plain, batch   one thread for each model; texts that generate writes alone; texts that are written side by side
    chooser, output         the next token of a text; its text, cut at stop strings
    decoder < cache         rows of different lengths in one forward pass
"""
