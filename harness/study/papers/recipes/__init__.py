"""Studies that compare training recipes along a ladder of sizes: where their curves cross."""
