"""From records to tables: reads what runs wrote, and nothing else."""
