"""Is pretraining worth something once training is as long as it helps, and from how much compute on?"""
