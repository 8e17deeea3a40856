"""Streams that several processes read, each its own batches."""

WORDS = ["saúde", "médica", "exame", "a", "dor", "…", "🙂", "hospital"]


def read(processes, begin=0, end=None, rows=2):
    """The batches of `rows` rows as the processes read them, by their numbers."""
    found, end = {}, len(processes[0].blocks) // rows if end is None else end
    for rank, prepared in enumerate(processes):
        for batch in range(begin, end):
            if batch % len(processes) == rank:
                numbers = range(batch * rows, (batch + 1) * rows)
                found[batch] = prepared.blocks.__getitems__(list(numbers))["shift_labels"].tolist()
    return [found[batch] for batch in range(begin, end)]


def collect(processes):
    """What a save does before process 0 writes: it is told where the others stand, source by source. Return process 0's."""
    first, *others = processes
    sent = [[] for _ in others]
    for positions, other in zip(sent, others, strict=True):
        other.blocks.collect_positions(lambda own, positions=positions: positions.append(own) or [])
    told = iter(zip(*sent, strict=True))
    first.blocks.collect_positions(lambda own: [own, *next(told, ())])
    return first
