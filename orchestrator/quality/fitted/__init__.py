"""Fit: from measured drafts to one calibrated probability, as plain JSON. The way in: `confidence.fit_confidence`."""
