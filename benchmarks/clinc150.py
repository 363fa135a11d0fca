"""A cascade on real text: requests to an assistant, 150 intents or none of them. What is done: intents/benchmark.py.

    python -m benchmarks.clinc150 ../shared/data/clinc150 [--work FOLDER] [--resume] [--max-regret 0.03]
"""

from benchmarks.intents.benchmark import main
from benchmarks.intents.datasets import CLINC150

if __name__ == "__main__":
    main(CLINC150)
