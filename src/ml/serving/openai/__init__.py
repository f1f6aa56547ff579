"""OpenAI's API for chat and text completion, as its own clients speak it."""
