"""What the control plane serves: the management API to people, the feed to gateways."""
