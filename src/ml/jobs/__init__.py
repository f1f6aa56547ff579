"""Long work: jobs with a record, states and events that outlive the process that does them."""
