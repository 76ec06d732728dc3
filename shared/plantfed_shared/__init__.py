"""What every part of a PlantFed federation must agree on."""
