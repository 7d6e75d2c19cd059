"""How patches are changed in fine-tuning, and what predictions are averaged over."""
