"""A cascade on real text: questions of bank customers, 77 intents. What is done: intents/benchmark.py.

    python -m benchmarks.banking77 ../shared/data/banking77 [--work FOLDER] [--resume] [--max-regret 0.03]
"""

from benchmarks.intents.benchmark import main
from benchmarks.intents.datasets import BANKING77

if __name__ == "__main__":
    main(BANKING77)
