"""Is the ledger what its writers wrote: chains of seals, costs from usage and prices, totals, closed months.

stream of sealed rows -> each writer's chain; calls -> cost again; runs -> sum again; lines and closes -> figures again
"""
