"""What is learned: labels, or masked voxels."""
