"""`orchestrator assess`: what a cascade would save on requests already answered. `assess.assess` is the way in."""
