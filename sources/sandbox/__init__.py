"""What the vendor emulators share: one invented company, a request log and faults on demand."""
