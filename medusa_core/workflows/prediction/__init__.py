"""What `predict` consists of: which files, read how, under which names, written how."""
