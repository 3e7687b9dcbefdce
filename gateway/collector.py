"""Python's garbage collector, told what this process is like."""

import gc


def spare_the_collector() -> None:
    """For a process that has started. A dashboard makes some 20,000 objects and drops them whole, which by default means
    thirty looks through everything that lives as long as the process. Reference counts free almost all of it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
