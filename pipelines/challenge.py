"""A challenger, from trained towers to the gate's word: ranker, evaluation, bundle, promotion.

python -m pipelines.challenge --scale small --seed 7 --now 2026-03-02T02:00:00+00:00

One process for all of it: each step reads the same lake and the same features, and none imports
torch. The towers are trained before, in a process of their own (pipelines/train_retrieval.py).
"""

import argparse
import json
from datetime import datetime

from infra.settings import Settings
from infra.workspace import Workspace
from pipelines.run import judge, rank
from pipelines.steps import Steps
from pipelines.train_ranker import QUERIES


def main() -> None:
    """Command line of this step; prints the result as one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.challenge", description=__doc__)
    parser.add_argument("--scale", choices=list(QUERIES), default="small")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--now", type=datetime.fromisoformat, required=True)
    parser.add_argument("--because", default="", help="why it is trained; noted for MLflow")
    asked = parser.parse_args()
    workspace, steps = Workspace.of(Settings()), Steps()
    ranker = rank(workspace, asked.scale, asked.seed, steps)
    judged = judge(workspace, asked.seed, steps, asked.now, asked.because)
    print(json.dumps({"ranker": ranker, "bundle": judged["bundle"], **judged["promotion"]}))


if __name__ == "__main__":
    main()
