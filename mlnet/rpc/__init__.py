"""Generated from proto/mlnet/rpc by proto/generate.py; a test derives it again and compares."""
