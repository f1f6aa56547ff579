"""What a browser shows of a service: its pages, their templates, and the files they share."""
