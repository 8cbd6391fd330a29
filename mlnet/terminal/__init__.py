"""What a person sees and types: the commands behind `mlnet-node`, their display, their errors."""
