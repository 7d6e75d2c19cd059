"""Fine-tuning's recipe, factor by factor at equal processor time, beside a plain MONAI loop."""
