"""The commands by group: each file parses arguments and prints; the work is done elsewhere, imported when used."""
