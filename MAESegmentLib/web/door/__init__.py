"""Who gets in and what gets through: the front door, each user's process, uploads, and files that nobody checked."""
