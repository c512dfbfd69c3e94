"""What the bundled models are taught with: `lessons`, the `readers` that supervise features, and a `tokenizer`."""
