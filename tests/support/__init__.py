"""What several tests share: small workflows, and real server processes."""
