"""Text generation servers that run elsewhere, and how to ask them."""
