"""What trainings consist of: one head, or several jointly, checked, run and committed."""
