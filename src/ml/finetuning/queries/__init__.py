"""Training data by a query: engines that run it, and the kept results."""
