"""Fine-tuning: what is asked for, training data, trainer backends, checkpoints and exports."""
