"""A provider's own account of what was used, laid beside the ledger: by UTC day, model and account.

file -> lines (read.py, by shape) -> beside the ledger's calls (ledger.py) -> rows (compare.py) -> table (words.py)
"""
