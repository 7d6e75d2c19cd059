"""Questions that were put to experiments; each has its runs, its result files and a README made from them."""
