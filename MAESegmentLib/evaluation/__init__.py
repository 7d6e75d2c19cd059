"""How well label maps agree with reference labels: per structure Dice, HD95, surface Dice and volume error."""
