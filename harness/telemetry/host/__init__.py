"""What was watched of the candidate host while loads ran, summed up for the checks."""
