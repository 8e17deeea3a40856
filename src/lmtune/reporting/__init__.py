"""Pages for people: the model card and the report."""
