"""Fine-tuning and pretraining: two runs of one training loop."""
