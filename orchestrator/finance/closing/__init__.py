"""Closing a month: its figures are frozen, what is learned later goes into the open month.

figures -> close document with its hash -> the ledger and a file; closed months -> the report, and its restatements
"""
