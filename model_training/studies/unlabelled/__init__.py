"""What scans without labels bring to a fine-tuning in the same processor time."""
