"""Who a request comes from: every way of signing in gives a Proof, and one place makes a Principal of it."""
