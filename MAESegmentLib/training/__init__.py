"""One training loop, used by pretraining and by fine-tuning."""
