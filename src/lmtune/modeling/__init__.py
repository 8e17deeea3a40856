"""Models and tokenizers: loaded or built, checked to belong together, saved so that others can load them."""
