"""Steps, checkpoints and logs of any training."""
