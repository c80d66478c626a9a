"""What recorded series say by themselves: findings with their evidence. The statistics run without Django."""
