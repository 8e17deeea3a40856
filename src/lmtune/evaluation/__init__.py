"""Numbers: sums over scored tokens, and what follows from them."""
