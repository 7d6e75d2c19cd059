"""The process of one fine-tuning run."""
