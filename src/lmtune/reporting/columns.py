"""Columns of a table, and those in which the numbers of a held-out set stand, with the text that each of them is of."""

from collections.abc import Container, Sequence

from lmtune.storage import Record


def align(rows: Sequence[Sequence[str]], right: Container[int]) -> list[str]:
    """Rows of cells as lines, two blanks between columns. right: numbers of the columns that are aligned to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def list_columns(measures: Record) -> dict[str, Record]:
    """Measures by title: `before` and `after` on one text, and `final` if the final evaluation scored another."""
    evaluations = measures.get("while_training")
    if evaluations is None:
        return {"final": measures}
    if _is_same_text(measures):
        return {"before": evaluations["before"], "after": measures}
    return {"before": evaluations["before"], "after": evaluations["after"], "final": measures}


def render_texts(measures: Record) -> str:
    """The text that the columns are measured on, in one line."""
    evaluations, final = measures.get("while_training"), render_amount(measures, measures["protocol"].get("limit"))
    if evaluations is None:
        return f"of {final}"
    if _is_same_text(measures):
        return f"before and after: {final}"
    return f"before and after: {render_evaluated(measures)}; final: {final}"


def render_evaluated(measures: Record) -> str:
    """How much of the text was scored during training."""
    evaluations = measures.get("while_training") or measures
    return render_amount(evaluations, evaluations.get("limit"))


def render_amount(measures: Record, limit: dict[str, int] | None) -> str:
    """`all 5,208 held-out tokens`, or `1,000 of 5,208 held-out tokens`."""
    if limit is None:
        return f"all {measures['tokens']:,} held-out tokens"
    return f"{measures['tokens']:,} of {limit['of_tokens']:,} held-out tokens"


def render_seen(measures: Record) -> str | None:
    """How much of the text the model was trained on, in 13-word sequences; None if unknown."""
    seen = measures.get("seen_in_training")
    if seen is None:
        return None
    if seen["share"] is None:
        return "How much of it also stands in the training text was not measured."
    return f"Of its 13-word sequences {100 * seen['share']:.3f} % also stand in the training text."


def _is_same_text(measures: Record) -> bool:
    return bool(measures["while_training"]["text"] == measures["protocol"]["text"])
