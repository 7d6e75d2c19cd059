"""What a user would do instead of fine-tuning: other networks from scratch in the same processor time."""
