"""What is run: workflows for inference, training and proofs."""
