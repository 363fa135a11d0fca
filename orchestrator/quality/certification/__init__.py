"""Certify: from labelled records to the lowest threshold that keeps its promise. `thresholds.certify` is the way in."""
