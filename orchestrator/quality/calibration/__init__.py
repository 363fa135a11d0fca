"""`orchestrator calibrate`: records from a source, a fit, a certificate, a file. The way in: `calibrate.calibrate`."""
