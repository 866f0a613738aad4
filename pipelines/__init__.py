"""The engine: specs, the stage graph, plans, the runner and the command line."""
