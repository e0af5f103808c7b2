"""What tests share: a running Modelry, a loopback package index, a real PostgreSQL."""
