"""What is measured beside answers: how long they take (`latency`), and the machine they were given on (`machine`)."""
