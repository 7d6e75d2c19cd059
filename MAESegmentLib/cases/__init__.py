"""Labelled and unlabelled cases on disk."""
