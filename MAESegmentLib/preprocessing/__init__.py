"""From a volume on its own grid to what a network sees, and exactly back."""
