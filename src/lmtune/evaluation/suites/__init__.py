"""Tasks with a protocol of their own: GPT-2's zero-shot table, and EleutherAI's harness."""
