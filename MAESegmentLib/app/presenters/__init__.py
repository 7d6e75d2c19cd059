"""What the panels of Slicer and of the browser do, once: state as plain values, intents as methods, no toolkit."""
