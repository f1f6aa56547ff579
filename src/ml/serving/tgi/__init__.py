"""Text Generation Inference's API, as its clients speak it."""
