"""What S3 allows; beyond it, it answers SlowDown and says no more."""

from sources.transport.limits import Limit

LIMITS = (
    # Of GET and HEAD per prefix. A customer's folder is a prefix, but which keys S3 keeps apart it does not tell.
    Limit("reads", calls=5500, seconds=1),
)
