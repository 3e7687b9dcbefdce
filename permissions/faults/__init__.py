"""What is wrong with a schema's rules, by topic: one line per fault, with its coordinate and what to write."""
