"""What the bundled models are taught from: `lessons`, the readers that supervise their features, and the tokenizer."""
