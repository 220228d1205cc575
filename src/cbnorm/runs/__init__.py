"""Identity, record, resume and execution of one run; plans and sweeps over many."""
