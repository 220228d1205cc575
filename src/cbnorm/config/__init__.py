"""What a run is: typed schemas of `conf/`, composition, refusal of bad input. Never imports torch."""
