"""Model files of libraries beside torch, one module each, all loaded without running their code."""
