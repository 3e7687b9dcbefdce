"""What a request costs the gateway's processor, beside the same work written by hand and on plain Strawberry."""
