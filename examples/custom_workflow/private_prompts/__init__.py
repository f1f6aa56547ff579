"""A workflow for an image of one's own."""
