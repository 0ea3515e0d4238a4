"""Traffic signals of a road network (SUMO through sumo-rl): one process per simulation, many stepped side by side."""
