"""How an effect gets from sender to receiver: attention elsewhere or other values, directly or through others."""
