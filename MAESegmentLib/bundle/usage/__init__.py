"""What a model's description says about how it is used: entries of a spec's `inference`, each with its checks."""
