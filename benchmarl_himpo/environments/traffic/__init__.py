"""Traffic signal control in a road network (SUMO through sumo-rl), with one process per simulation."""
