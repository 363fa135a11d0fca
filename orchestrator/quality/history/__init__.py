"""What the ledger knows of drafts already made. `recorded.read_recorded` is the way in."""
