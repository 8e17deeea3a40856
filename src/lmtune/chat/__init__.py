"""Chatting in a terminal: models stay loaded, texts are streamed, settings can change between them."""
