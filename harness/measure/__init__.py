"""What is measured beside answers: how long they take (`latency`), and on which machine they were given (`machine`)."""
