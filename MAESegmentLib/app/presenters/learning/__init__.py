"""Fine-tuning in the panels: what is chosen before, the run, and the decision about its result."""
