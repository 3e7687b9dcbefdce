"""``python -m tests.benchmarks.comparison --port 8000``: the comparison's graph behind the server that the gateway ships with."""

import argparse

from gateway.server import Server
from tests.benchmarks.comparison.server import create

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    Server(create(), arguments.host, arguments.port).run()
