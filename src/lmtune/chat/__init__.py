"""A prompt line: models stay loaded, texts come as they are written, settings change between them."""
