"""Text generation: many requests share one causal language model, token by token."""
