"""`orchestrator simulate`: recorded runs under another policy. `simulate.simulate` is the way in."""
