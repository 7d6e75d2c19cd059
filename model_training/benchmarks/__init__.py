"""What the library costs, each beside what it is compared with; tables and plots are made from results/*.csv."""
