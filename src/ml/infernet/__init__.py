"""The container protocol: what an Infernet node sends and accepts."""
