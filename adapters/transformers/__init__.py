"""Models that are loaded through transformers, a file for each way of asking them."""
