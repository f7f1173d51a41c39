"""Claims as records: their sentences, references, findings, evidence and results, and the scheduler that runs them."""
