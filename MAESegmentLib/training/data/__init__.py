"""What a training run learns from: patches, and images that are drawn from label maps."""
