"""What becomes of a Plan: files on disk, each proven."""
