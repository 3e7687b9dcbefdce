"""What every connector needs to speak to its vendor: HTTP with a deadline, OAuth, and fair reading of long lists."""
