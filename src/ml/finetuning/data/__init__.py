"""Training data: rows of any usual form, rendered, tokenised, masked, and a report on them."""
