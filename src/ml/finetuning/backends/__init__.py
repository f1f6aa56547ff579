"""What trains: Unsloth where CUDA is, TRL with peft everywhere, behind one interface."""
