"""What is measured and trained in one go on a machine with a GPU: see README.md."""
