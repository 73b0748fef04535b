"""A store that keeps every rule of the kit, and stores that break one each."""
