"""What must hold in inventory files about NVIDIA's GPUs."""
